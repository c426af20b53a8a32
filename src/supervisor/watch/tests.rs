use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use tempfile::TempDir;
use tokio::time::timeout;

use super::*;
use crate::config::testing::as_nobody;

/// Far more than anything here takes; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(30);

struct Host {
    root: TempDir,
    config: PathBuf,
    flows: PathBuf,
}

impl Host {
    /// A configuration directory with `flows.d/a.toml`, and a directory beside `flows.d`.
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let config = root.path().join("etc");
        let flows = config.join("flows.d");
        fs::create_dir_all(&flows).unwrap();
        fs::create_dir(root.path().join("elsewhere")).unwrap();
        fs::write(flows.join("a.toml"), "one").unwrap();
        make_old(&flows.join("a.toml"));
        Self { root, config, flows }
    }

    /// A watch after its first look.
    fn watch(&self) -> Watch {
        let mut watch = Watch::start(&self.config);
        assert_eq!(watch.polling(), None);
        watch.begin();
        watch
    }

    /// Runs a shell script in `flows.d`; `$E` is a directory elsewhere on the same file system.
    fn sh(&self, script: &str) {
        let elsewhere = self.root.path().join("elsewhere");
        let status =
            Command::new("sh").args(["-ec", script]).current_dir(&self.flows).env("E", elsewhere).status().unwrap();
        assert!(status.success(), "{script}");
    }

    fn a(&self) -> PathBuf {
        self.flows.join("a.toml")
    }
}

/// As if it had been written long ago.
fn make_old(path: &Path) {
    fs::File::options().append(true).open(path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
}

async fn changed(watch: &mut Watch) {
    timeout(PATIENCE, watch.changed()).await.expect("no change was noticed");
}

/// Waits until the watch lets `path` be read, as the supervisor does; its content then.
async fn read_when_free(watch: &mut Watch, path: &Path) -> Option<String> {
    timeout(PATIENCE, async {
        loop {
            watch.changed().await;
            watch.begin();
            let content = fs::read_to_string(path).ok();
            if !watch.busy().contains(path) {
                return content;
            }
        }
    })
    .await
    .expect("the file never became free")
}

#[tokio::test]
async fn every_way_to_write_a_file_is_noticed_and_the_whole_of_it_read() {
    let ways = [
        ("nano, cat >", "echo two > a.toml"),
        ("append", "printf '' > a.toml; echo two >> a.toml"),
        ("sed -i", "sed -i s/one/two/ a.toml"),
        (
            "Ansible's temporary file in the same directory",
            "echo two > .ansible_tmpa.toml; mv .ansible_tmpa.toml a.toml",
        ),
        ("rename in from another directory", "echo two > $E/x; mv $E/x a.toml"),
        ("vim", "mv a.toml a.toml~; echo two > a.toml; rm a.toml~"),
        ("symbolic link", "echo two > $E/x; rm a.toml; ln -s $E/x a.toml"),
        ("swap of a symbolic link", "echo two > $E/x; ln -s $E/x tmp; mv -T tmp a.toml"),
        ("hard link", "echo two > $E/x; rm a.toml; ln $E/x a.toml"),
        ("dpkg", "echo two > a.toml.dpkg-new; mv a.toml.dpkg-new a.toml"),
    ];
    for (name, script) in ways {
        let host = Host::new();
        let mut watch = host.watch();
        host.sh(script);
        let read = read_when_free(&mut watch, &host.a()).await;
        assert_eq!(read.as_deref().map(str::trim), Some("two"), "{name}");
    }
}

#[tokio::test]
async fn a_file_that_is_removed_is_noticed() {
    let host = Host::new();
    let mut watch = host.watch();
    host.sh("rm a.toml");
    assert_eq!(read_when_free(&mut watch, &host.a()).await, None);
}

#[tokio::test]
async fn a_half_written_file_is_busy_and_holds_no_other_back() {
    let host = Host::new();
    let mut watch = host.watch();
    let mut half = fs::File::create(host.a()).unwrap();
    half.write_all(b"half").unwrap();
    host.sh("echo new > b.toml");
    changed(&mut watch).await;
    watch.begin();
    let (busy, b) = (watch.busy(), host.flows.join("b.toml"));
    assert!(busy.contains(&host.a()));
    if busy.contains(&b) {
        assert_eq!(read_when_free(&mut watch, &b).await.as_deref(), Some("new\n"));
    }
    assert_eq!(watch.busy(), BTreeSet::from([host.a()]));
    half.write_all(b" and half").unwrap();
    drop(half);
    assert_eq!(read_when_free(&mut watch, &host.a()).await.unwrap(), "half and half");
    assert_eq!(watch.busy(), BTreeSet::new());
}

#[tokio::test]
async fn a_file_left_open_is_taken_once_it_is_quiet() {
    let host = Host::new();
    let mut watch = host.watch();
    let mut open = fs::File::create(host.a()).unwrap();
    open.write_all(b"all of it").unwrap();
    assert_eq!(watch.busy(), BTreeSet::from([host.a()]));
    assert_eq!(read_when_free(&mut watch, &host.a()).await.unwrap(), "all of it");
}

#[tokio::test]
async fn a_file_written_between_the_reading_and_the_question_is_busy() {
    let host = Host::new();
    let mut watch = host.watch();
    watch.begin();
    assert_eq!(watch.busy(), BTreeSet::new());
    host.sh("echo two > a.toml");
    assert_eq!(watch.busy(), BTreeSet::from([host.a()]), "closed since, but what was read may be half of it");
    assert_eq!(read_when_free(&mut watch, &host.a()).await.as_deref(), Some("two\n"));
}

#[tokio::test]
async fn flows_d_moved_away_and_back_stays_watched() {
    let host = Host::new();
    let mut watch = host.watch();
    for round in 0..3 {
        let away = host.config.join("away");
        fs::rename(&host.flows, &away).unwrap();
        changed(&mut watch).await;
        fs::rename(&away, &host.flows).unwrap();
        changed(&mut watch).await;
        let text = format!("round {round}");
        fs::write(host.a(), &text).unwrap();
        assert_eq!(read_when_free(&mut watch, &host.a()).await.unwrap(), text);
    }
}

#[tokio::test]
async fn flows_d_removed_and_made_anew_stays_watched() {
    let host = Host::new();
    let mut watch = host.watch();
    for round in 0..3 {
        fs::remove_dir_all(&host.flows).unwrap();
        fs::create_dir(&host.flows).unwrap();
        changed(&mut watch).await;
        let text = format!("round {round}");
        fs::write(host.a(), &text).unwrap();
        assert_eq!(read_when_free(&mut watch, &host.a()).await.unwrap(), text);
    }
}

#[tokio::test]
async fn directories_that_come_after_the_start_are_watched() {
    let root = tempfile::tempdir().unwrap();
    let config = root.path().join("deep/etc");
    let mut watch = Watch::start(&config);
    fs::create_dir(root.path().join("deep")).unwrap();
    changed(&mut watch).await;
    fs::create_dir(&config).unwrap();
    changed(&mut watch).await;
    fs::create_dir(config.join("flows.d")).unwrap();
    changed(&mut watch).await;
    let file = config.join("flows.d/a.toml");
    fs::write(&file, "one").unwrap();
    assert_eq!(read_when_free(&mut watch, &file).await.unwrap(), "one");
}

#[tokio::test]
async fn a_configuration_directory_swapped_by_its_link_stays_watched() {
    let host = Host::new();
    let (link, next) = (host.root.path().join("link"), host.root.path().join("next"));
    symlink(&host.config, &link).unwrap();
    let mut watch = Watch::start(&link);
    fs::create_dir_all(next.join("flows.d")).unwrap();
    symlink(&next, host.root.path().join("tmp")).unwrap();
    fs::rename(host.root.path().join("tmp"), &link).unwrap();
    changed(&mut watch).await;
    let file = link.join("flows.d/a.toml");
    fs::write(&file, "one").unwrap();
    assert_eq!(read_when_free(&mut watch, &file).await.unwrap(), "one");
}

#[tokio::test]
async fn a_thousand_writes_are_noticed_and_the_last_is_read() {
    let host = Host::new();
    let mut watch = host.watch();
    let path = host.a();
    let writer = std::thread::spawn(move || {
        for n in 0..1000 {
            fs::write(&path, n.to_string()).unwrap();
        }
    });
    while read_when_free(&mut watch, &host.a()).await.as_deref() != Some("999") {}
    writer.join().unwrap();
}

#[tokio::test]
async fn whatever_the_moment_of_reading_no_half_of_a_file_is_taken() {
    let host = Host::new();
    let mut watch = host.watch();
    let path = host.a();
    let done = std::thread::spawn(move || {
        for _ in 0..500 {
            let mut file = fs::File::create(&path).unwrap();
            file.write_all(b"half").unwrap();
            std::thread::yield_now();
            file.write_all(b" and half").unwrap();
        }
    });
    let mut taken = 0;
    while !done.is_finished() || taken == 0 {
        watch.begin();
        let content = fs::read_to_string(host.a()).unwrap();
        if !watch.busy().contains(&host.a()) {
            taken += 1;
            assert!(["one", "half and half"].contains(&content.as_str()), "took {content:?}");
        }
    }
    done.join().unwrap();
}

#[tokio::test]
async fn a_reload_asked_for_right_after_a_write_waits_for_it() {
    let host = Host::new();
    let mut watch = host.watch();
    host.sh("echo two > a.toml");
    timeout(PATIENCE, watch.settle()).await.unwrap();
    watch.begin();
    assert_eq!(watch.busy(), BTreeSet::new());
}

#[test]
fn at_the_start_a_file_that_was_just_written_is_taken() {
    let host = Host::new();
    host.sh("echo two > a.toml; : > b.toml");
    let mut watch = Watch::start(&host.config);
    watch.begin();
    assert_eq!(watch.busy(), BTreeSet::new());
}

#[tokio::test]
async fn an_empty_file_is_believed_only_after_a_while() {
    let host = Host::new();
    fs::write(host.a(), "").unwrap();
    make_old(&host.a());
    let mut watch = host.watch();
    watch.begin();
    assert_eq!(watch.busy(), BTreeSet::from([host.a()]));
    assert_eq!(read_when_free(&mut watch, &host.a()).await.as_deref(), Some(""));
}

#[tokio::test]
async fn reading_the_files_is_no_change() {
    let host = Host::new();
    let mut watch = host.watch();
    for _ in 0..10 {
        watch.begin();
        fs::read_dir(&host.flows).unwrap().flatten().for_each(|entry| drop(fs::read(entry.path())));
        fs::read_dir(&host.config).unwrap().for_each(drop);
    }
    watch.begin();
    assert_eq!(watch.busy(), BTreeSet::new());
    assert_eq!(watch.shared.pending().due(Instant::now()), Due::Never);
}

#[tokio::test]
async fn what_happens_beside_the_configuration_is_no_change() {
    let host = Host::new();
    let mut watch = host.watch();
    fs::write(host.root.path().join("elsewhere/a.toml"), "x").unwrap();
    fs::write(host.root.path().join("b.toml"), "x").unwrap();
    watch.begin();
    assert_eq!(watch.shared.pending().due(Instant::now()), Due::Never);
}

#[tokio::test]
async fn a_key_is_watched_like_a_flow() {
    let host = Host::new();
    let mut watch = host.watch();
    let secrets = host.config.join(FOLDER);
    fs::create_dir(&secrets).unwrap();
    changed(&mut watch).await;
    let key = secrets.join("venue-a");
    fs::write(&key, "one").unwrap();
    assert_eq!(read_when_free(&mut watch, &key).await.as_deref(), Some("one"));
    let ways = [
        ("in place", "echo two > venue-a"),
        ("by a rename", "echo two > .venue-a.tmp; mv .venue-a.tmp venue-a"),
        ("by a link", "echo two > ../venue-a; ln -sf ../venue-a venue-a"),
        ("by an editor with a backup", "mv venue-a venue-a~; echo two > venue-a; rm venue-a~"),
    ];
    for (way, script) in ways {
        fs::remove_file(&key).unwrap();
        fs::write(&key, "one").unwrap();
        read_when_free(&mut watch, &key).await;
        let status = Command::new("sh").args(["-ec", script]).current_dir(&secrets).status().unwrap();
        assert!(status.success());
        assert_eq!(read_when_free(&mut watch, &key).await.as_deref(), Some("two\n"), "{way}");
    }
}

#[tokio::test]
async fn half_of_a_key_is_not_taken() {
    let host = Host::new();
    let secrets = host.config.join(FOLDER);
    fs::create_dir(&secrets).unwrap();
    let key = secrets.join("venue-a");
    let mut watch = host.watch();
    let mut half = fs::File::create(&key).unwrap();
    half.write_all(b"half").unwrap();
    watch.begin();
    assert_eq!(watch.busy(), BTreeSet::from([key.clone()]));
    half.write_all(b" and half").unwrap();
    drop(half);
    assert_eq!(read_when_free(&mut watch, &key).await.as_deref(), Some("half and half"));
}

#[tokio::test]
async fn a_change_of_the_mode_of_a_key_is_noticed() {
    let host = Host::new();
    let secrets = host.config.join(FOLDER);
    fs::create_dir(&secrets).unwrap();
    let key = secrets.join("venue-a");
    fs::write(&key, "one").unwrap();
    let mut watch = host.watch();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    changed(&mut watch).await;
}

#[tokio::test]
async fn keys_that_may_not_be_listed_spoil_no_notifications_of_flows() {
    let host = Host::new();
    let secrets = host.config.join(FOLDER);
    fs::create_dir(&secrets).unwrap();
    fs::set_permissions(&secrets, fs::Permissions::from_mode(0o311)).unwrap();
    fs::set_permissions(host.root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut watch = as_nobody(|| host.watch());
    host.sh("echo two > a.toml");
    assert_eq!(read_when_free(&mut watch, &host.a()).await.as_deref(), Some("two\n"));
    fs::set_permissions(&secrets, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn without_notifications_what_was_just_written_is_busy() {
    let host = Host::new();
    let mut watch = host.watch();
    watch.watcher = None;
    watch.begin();
    assert_eq!(watch.busy(), BTreeSet::new());
    host.sh("echo two > a.toml");
    assert_eq!(watch.busy(), BTreeSet::from([host.a()]));
}
