use std::fs;

use super::*;

const FLOW: &str = "[sources.in]\nprotocol = \"udp\"\nbind = \"127.0.0.1:5000\"\n\n[outputs.out]\nprotocol = \"udp\"\ndestination = \"198.51.100.7:5000\"\n";

/// A configuration with a valid flow `good` and a broken one `bad`, and a folder beside it.
fn site() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let temp = tempfile::tempdir().unwrap();
    let (config, beside) = (temp.path().join("config"), temp.path().join("beside"));
    fs::create_dir_all(config.join("flows.d")).unwrap();
    fs::create_dir(&beside).unwrap();
    fs::write(config.join("flows.d/good.toml"), FLOW).unwrap();
    fs::write(config.join("flows.d/bad.toml"), "colour = 1\n").unwrap();
    (temp, config, beside)
}

fn verdict(config: &Path, files: &[&Path], overlays: &[&str]) -> Verdict {
    let args = CheckArgs {
        files: files.iter().map(|f| f.to_path_buf()).collect(),
        overlays: overlays.iter().map(|o| parse_overlay(o).unwrap()).collect(),
        json: false,
    };
    Request::new(&args, config).unwrap().judge(config)
}

#[test]
fn without_files_everything_counts() {
    let (_temp, config, _) = site();
    let verdict = verdict(&config, &[], &[]);
    assert_eq!((verdict.valid, verdict.summary().as_str()), (false, "2 errors, 1 warning"));
}

#[test]
fn a_named_file_alone_counts_by_path_or_by_name() {
    let (_temp, config, _) = site();
    for good in [config.join("flows.d/good.toml").as_path(), Path::new("good.toml"), Path::new("flows.d/good.toml")] {
        let verdict = verdict(&config, &[good], &[]);
        assert_eq!((verdict.valid, verdict.summary().as_str()), (true, "1 flow valid, 3 warnings"));
    }
    assert!(!verdict(&config, &[Path::new("bad.toml")], &[]).valid);
}

#[test]
fn a_candidate_elsewhere_stands_for_the_flow_of_its_name() {
    let (_temp, config, beside) = site();
    let candidate = beside.join("good.toml");
    fs::write(&candidate, FLOW).unwrap();
    assert!(verdict(&config, &[&candidate], &[]).valid);
    let other = beside.join("another.toml");
    fs::write(&other, FLOW).unwrap();
    let verdict = verdict(&config, &[&other], &[]);
    assert!(!verdict.valid);
    let conflict = verdict.diagnostics.iter().find(|d| d.severity == Level::Error).unwrap();
    assert_eq!((conflict.file.as_path(), conflict.flow.as_deref()), (other.as_path(), Some("another")));
}

#[test]
fn a_candidate_of_the_daemon_file_stands_for_it() {
    let (_temp, config, beside) = site();
    let candidate = beside.join("mediaconnect.toml");
    fs::write(&candidate, "[limits]\nmax-flows = 0\n").unwrap();
    let verdict = verdict(&config, &[&candidate], &[]);
    assert!(!verdict.valid);
    assert_eq!(verdict.summary(), "1 error, 3 warnings");
}

#[test]
fn a_temporary_file_of_any_name_is_judged_by_itself() {
    let (_temp, config, beside) = site();
    for name in ["source", ".source.toml", "tmp_x1"] {
        let temporary = beside.join(name);
        fs::write(&temporary, FLOW).unwrap();
        assert!(verdict(&config, &[&temporary], &[]).valid, "{name}");
        fs::write(&temporary, "x").unwrap();
        assert!(!verdict(&config, &[&temporary], &[]).valid, "{name}");
    }
}

#[test]
fn an_overlay_is_judged_in_place_of_its_file() {
    let (_temp, config, beside) = site();
    let candidate = beside.join("source");
    fs::write(&candidate, FLOW).unwrap();
    let overlay = |name: &str| verdict(&config, &[], &[&format!("{name}={}", candidate.display())]).valid;
    assert!(overlay("good"));
    assert!(overlay("flows.d/good.toml"));
    assert!(!overlay("new"), "its port is that of good");
    assert!(!overlay("mediaconnect.toml"), "it is no daemon file");
    fs::remove_file(&candidate).unwrap();
    assert!(!overlay("good"), "a candidate that is not there is no valid one");
}

#[test]
fn a_named_file_keeps_its_place_whatever_is_wrong_with_its_name() {
    let (_temp, config, _) = site();
    fs::create_dir(config.join("subscribers.d")).unwrap();
    for file in ["flows.d/Bad_Name.toml", "subscribers.d/affiliate.toml"] {
        fs::write(config.join(file), FLOW).unwrap();
        let roundabout = config.join("flows.d/..").join(file);
        let verdict = verdict(&config, &[&roundabout], &[]);
        let errors: Vec<_> = verdict.diagnostics.iter().filter(|d| d.severity == Level::Error).collect();
        assert!(!errors.is_empty() && errors.iter().all(|d| d.file == roundabout), "{errors:?}");
        fs::remove_file(config.join(file)).unwrap();
    }
}

#[test]
fn what_an_overlay_may_stand_for() {
    for good in ["news=f", "flows.d/news.toml=f", "mediaconnect.toml=f", "news=a=b"] {
        assert!(parse_overlay(good).is_ok(), "{good}");
    }
    for bad in ["news", "news=", "=f", "News=f", "../x.toml=f", "flows.d/News.toml=f", "other.toml=f"] {
        assert!(parse_overlay(bad).is_err(), "{bad}");
    }
    assert_eq!(parse_overlay("news=f").unwrap().path, Path::new("flows.d/news.toml"));
}

#[test]
fn a_file_that_is_nowhere_and_two_for_one_flow_are_wrong_usage() {
    let (_temp, config, beside) = site();
    let request = |args: CheckArgs| Request::new(&args, &config);
    assert!(request(CheckArgs { files: vec!["nowhere.toml".into()], ..CheckArgs::default() }).is_err());
    fs::write(beside.join("good.toml"), FLOW).unwrap();
    let files = vec![beside.join("good.toml"), config.join("flows.d/good.toml")];
    assert!(request(CheckArgs { files, ..CheckArgs::default() }).is_err());
}
