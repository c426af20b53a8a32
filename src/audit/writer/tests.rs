use std::os::unix::fs::symlink;

use super::super::{Anchor, Verdict, files, verify};
use super::*;

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn log(&self) -> PathBuf {
        self.0.path().join("log")
    }

    fn path(&self) -> PathBuf {
        self.log().join(FILE)
    }

    fn start(&self) -> Audit {
        Audit::start(&self.log(), self.0.path()).unwrap()
    }

    /// A daemon's life with so many acts.
    fn acts(&self, range: std::ops::Range<u64>) {
        let audit = self.start();
        range.for_each(|n| audit.record(act(n)));
    }

    fn kept(&self) -> Anchor {
        let head = serde_json::from_slice(&fs::read(self.0.path().join(HEAD_FILE)).unwrap()).unwrap();
        Anchor { by: "state".to_owned(), head }
    }

    fn verdict(&self) -> Verdict {
        verify(&files(&self.log()).unwrap(), &[self.kept()])
    }

    fn lines(&self) -> Vec<String> {
        fs::read_to_string(self.path()).unwrap().lines().map(str::to_owned).collect()
    }

    fn write(&self, lines: &[String]) {
        fs::write(self.path(), lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    }
}

fn act(n: u64) -> Record {
    let (by, command) = ("ann".to_owned(), format!("restart output o{n}"));
    Record::Act { by, uid: 1000, pid: 7, command, flow: Some("news".to_owned()), refused: None }
}

fn faults(verdict: &Verdict) -> Vec<&str> {
    verdict.faults.iter().map(|fault| fault.message.as_str()).collect()
}

#[test]
fn a_trail_goes_on_over_restarts_and_is_intact() {
    let place = Place::new();
    place.acts(0..3);
    place.acts(3..5);
    let verdict = place.verdict();
    assert_eq!((verdict.intact, verdict.records, verdict.first), (true, 5, 1), "{verdict:?}");
    assert_eq!(verdict.head.as_ref(), Some(&place.kept().head));
    assert_eq!(verdict.confirmed, [("state".to_owned(), 1)].into());
    assert!(place.lines()[4].contains(r#""type":"act","by":"ann","uid":1000,"pid":7,"command":"restart output o4""#));
}

#[test]
fn a_changed_line_a_removed_one_a_cut_tail_and_a_trail_written_anew_are_found() {
    let place = Place::new();
    place.acts(0..5);
    let lines = place.lines();
    for n in 0..5 {
        let mut changed = lines.clone();
        changed[n] = changed[n].replace("ann", "bob");
        place.write(&changed);
        assert!(!place.verdict().intact, "line {n} is changed");
        let mut removed = lines.clone();
        removed.remove(n);
        place.write(&removed);
        let verdict = place.verdict();
        // Old files may be kept elsewhere: that the first records are not here is said, and no fault.
        assert_eq!((verdict.intact, verdict.first), (n == 0, 1 + u64::from(n == 0)), "line {n} is removed");
    }
    place.write(&lines[..3]);
    assert!(faults(&place.verdict())[0].contains("the tail is cut, the trail ends with record 3"));
    assert!(verify(&files(&place.log()).unwrap(), &[]).intact, "nothing in the trail itself shows that");

    // Somebody who writes it all anew, each line with its right hash.
    let kept = place.kept();
    let mut head = Head::new(kept.head.trail.clone());
    let mut anew = Vec::new();
    for n in 0..5 {
        let (line, next) = head.next(&act(n + 10), SystemTime::UNIX_EPOCH).unwrap();
        head = next;
        anew.push(line);
    }
    place.write(&anew);
    let verdict = place.verdict();
    assert_eq!(verdict.faults.len(), 1);
    assert!(verdict.faults[0].message.contains("written anew"), "{verdict:?}");
}

#[test]
fn a_line_that_was_never_finished_is_accounted_for_and_nothing_else_is() {
    let place = Place::new();
    place.acts(0..2);
    let mut file = File::options().append(true).open(place.path()).unwrap();
    file.write_all(br#"{"trail":"half a li"#).unwrap();
    assert!(!place.verdict().intact, "as long as nobody accounts for it");
    place.acts(2..3);
    assert!(place.verdict().intact, "{:?}", place.verdict());
    let mut lines = place.lines();
    assert!(lines[3].contains(r#""type":"torn""#), "{}", lines[3]);
    lines[2] = "{}".to_owned();
    place.write(&lines);
    assert!(!place.verdict().intact);
}

#[test]
fn a_full_file_is_put_aside_and_the_chain_goes_on() {
    let place = Place::new();
    for n in 0..40 {
        let audit = Audit::start_with(&place.log(), place.0.path(), 1000).unwrap();
        audit.record(act(2 * n));
        audit.record(act(2 * n + 1));
    }
    let all = files(&place.log()).unwrap();
    assert!(all.len() > 8, "{}", all.len());
    let verdict = place.verdict();
    assert_eq!((verdict.intact, verdict.records), (true, 80), "{verdict:?}");
    // Without the oldest it is known where it begins.
    fs::remove_file(&all[0].0).unwrap();
    let verdict = place.verdict();
    assert!(verdict.intact && verdict.first > 1, "{verdict:?}");
    // Without one between it is not.
    fs::remove_file(&all[3].0).unwrap();
    assert!(faults(&place.verdict())[0].contains("records were left out"));
}

#[test]
fn a_file_that_is_moved_away_while_it_is_written_to_is_made_anew() {
    let place = Place::new();
    let audit = place.start();
    audit.record(act(0));
    while audit.status().head.is_none() {
        std::thread::yield_now();
    }
    fs::rename(place.path(), place.log().join("audit.jsonl.1")).unwrap();
    audit.record(act(1));
    drop(audit);
    let verdict = place.verdict();
    assert_eq!((verdict.intact, verdict.records), (true, 2), "{verdict:?}");
}

#[test]
fn a_long_record_is_found_again() {
    let place = Place::new();
    {
        let audit = place.start();
        audit.record(act(0));
        audit.record(Record::Stop { why: "x".repeat(300_000) });
    }
    place.acts(1..2);
    let verdict = place.verdict();
    assert_eq!((verdict.intact, verdict.records), (true, 3), "{verdict:?}");
}

#[test]
fn who_may_not_act_does_not_fill_the_disk() {
    let audit = Place::new().start();
    assert_eq!((0..1000).filter_map(|_| audit.admits_refusal()).collect::<Vec<_>>(), [0; 20]);
    lock(&audit.refusals).since = Instant::now() - REFUSAL;
    assert_eq!((audit.admits_refusal(), audit.admits_refusal()), (Some(980), None));
}

#[test]
fn a_trail_that_is_deleted_is_missed() {
    let place = Place::new();
    place.acts(0..3);
    fs::remove_file(place.path()).unwrap();
    place.acts(3..4);
    let lines = place.lines();
    assert!(lines[0].contains(r#""seq":4"#) && lines[0].contains(r#""type":"missing""#), "{lines:?}");
}

#[test]
fn what_is_cut_while_no_daemon_runs_shows_for_ever() {
    for cut in 1..3 {
        let place = Place::new();
        place.acts(0..4);
        let lines = place.lines();
        place.write(&lines[..4 - cut]);
        place.acts(4..6);
        assert!(place.lines()[4 - cut].contains(r#""type":"missing""#), "{:?}", place.lines());
        assert!(faults(&place.verdict())[0].contains("records were left out"), "{:?}", place.verdict());
    }
    let place = Place::new();
    place.acts(0..2);
    let mut lines = place.lines();
    lines[1] = lines[1].replace("ann", "bob");
    place.write(&lines);
    place.acts(2..3);
    assert!(faults(&place.verdict())[0].contains("record 2 was changed"), "{:?}", place.verdict());
}

#[test]
fn what_can_not_be_written_is_a_gap_and_nobody_waits() {
    let place = Place::new();
    // To write there is to find the disk full.
    fs::create_dir_all(place.log()).unwrap();
    symlink("/dev/full", place.path()).unwrap();
    let audit = place.start();
    (0..5).for_each(|n| audit.record(act(n)));
    while audit.status().records_lost < 5 {
        std::thread::yield_now();
    }
    let error = audit.status().error.unwrap();
    assert!(error.contains("No space left"), "{error}");
    fs::remove_file(place.path()).unwrap();
    audit.record(act(5));
    drop(audit);
    let lines = place.lines();
    assert!(lines[0].contains(r#""type":"gap","records":5,"#) && lines[0].contains("No space left"), "{lines:?}");
    assert!(lines[1].contains("restart output o5"), "{lines:?}");
    assert!(place.verdict().intact, "{:?}", place.verdict());
}
