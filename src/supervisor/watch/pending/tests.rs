use notify::event::{DataChange, Event, Flag, MetadataKind, RemoveKind};

use super::*;

const FLOWS: &str = "/etc/mediaconnect/flows.d";
const MS: fn(u64) -> Duration = Duration::from_millis;

/// Events at given milliseconds, and what is due at others.
struct Case {
    pending: Pending,
    t0: Instant,
}

impl Case {
    fn new() -> Self {
        Self { pending: Pending::default(), t0: Instant::now() }
    }

    fn event(&mut self, at: u64, kind: EventKind, names: &[&str]) {
        let mut event = Event::new(kind);
        event.paths = names.iter().map(|name| Path::new(FLOWS).join(name)).collect();
        self.pending.note(&event, &[PathBuf::from(FLOWS)], self.t0 + MS(at));
    }

    fn due(&mut self, at: u64) -> Due {
        self.pending.due(self.t0 + MS(at))
    }

    /// `due` in milliseconds; `None`: never.
    fn next(&mut self, at: u64) -> Option<u64> {
        match self.due(at) {
            Due::Now => Some(at),
            Due::At(t) => Some((t - self.t0).as_millis() as u64),
            Due::Never => None,
        }
    }

    fn busy(&self) -> Vec<&str> {
        self.pending.writing.keys().filter_map(|path| path.file_name()?.to_str()).collect()
    }
}

const WRITE: EventKind = EventKind::Modify(ModifyKind::Data(DataChange::Any));
const CLOSE: EventKind = EventKind::Access(AccessKind::Close(AccessMode::Write));
const OPEN: EventKind = EventKind::Access(AccessKind::Open(AccessMode::Any));
const CREATE: EventKind = EventKind::Create(CreateKind::File);
const FROM: EventKind = EventKind::Modify(ModifyKind::Name(RenameMode::From));
const TO: EventKind = EventKind::Modify(ModifyKind::Name(RenameMode::To));
const BOTH: EventKind = EventKind::Modify(ModifyKind::Name(RenameMode::Both));

#[test]
fn a_closed_file_is_taken_after_a_short_quiet() {
    let mut case = Case::new();
    case.event(0, WRITE, &["a.toml"]);
    case.event(10, CLOSE, &["a.toml"]);
    assert_eq!(case.next(10), Some(60));
    assert_eq!(case.due(60), Due::Now);
}

#[test]
fn changes_in_a_row_are_taken_together_but_none_waits_longer_than_two_seconds() {
    let mut case = Case::new();
    for at in (0..5000).step_by(40) {
        case.event(at, CLOSE, &["a.toml"]);
        if case.due(at) == Due::Now {
            assert_eq!(at, 2000);
            return;
        }
    }
    panic!("a steady stream of changes held them back for ever");
}

#[test]
fn a_removal_waits_a_little_longer_for_its_successor() {
    let mut case = Case::new();
    case.event(0, EventKind::Remove(RemoveKind::File), &["a.toml"]);
    assert_eq!(case.next(0), Some(150));
}

#[test]
fn an_open_file_waits_until_two_seconds_after_its_last_write() {
    let mut case = Case::new();
    case.event(0, WRITE, &["a.toml"]);
    case.event(1500, WRITE, &["a.toml"]);
    assert_eq!(case.next(1500), Some(3500));
    assert_eq!(case.busy(), ["a.toml"]);
    assert_eq!(case.due(3500), Due::Now);
    assert!(case.busy().is_empty());
}

#[test]
fn a_created_file_is_open_once_its_open_is_seen_and_a_link_never_is() {
    let mut case = Case::new();
    case.event(0, CREATE, &["a.toml"]);
    case.event(0, OPEN, &["a.toml"]);
    case.event(0, CREATE, &["link.toml"]);
    assert_eq!(case.busy(), ["a.toml"]);
    assert_eq!(case.next(0), Some(50));
}

#[test]
fn a_reader_makes_no_file_busy_and_is_no_change() {
    let mut case = Case::new();
    case.event(0, OPEN, &["a.toml"]);
    assert_eq!(case.due(0), Due::Never);
    assert!(case.busy().is_empty());
}

#[test]
fn a_file_renamed_while_it_is_open_is_busy_under_its_new_name() {
    let mut case = Case::new();
    case.event(0, WRITE, &["b.toml"]);
    for (kind, names) in [(FROM, &["b.toml"][..]), (TO, &["a.toml"]), (BOTH, &["b.toml", "a.toml"])] {
        case.event(1, kind, names);
    }
    assert_eq!(case.busy(), ["a.toml"]);
}

#[test]
fn a_file_renamed_into_place_is_complete() {
    let mut case = Case::new();
    case.event(0, WRITE, &["b.toml"]);
    case.event(0, CLOSE, &["b.toml"]);
    for (kind, names) in [(FROM, &["b.toml"][..]), (TO, &["a.toml"]), (BOTH, &["b.toml", "a.toml"])] {
        case.event(1, kind, names);
    }
    assert!(case.busy().is_empty());
}

#[test]
fn writes_to_files_that_are_not_loaded_are_no_change() {
    for name in [".a.toml.swp", ".ansible_tmpa.toml", "a.toml~", "a.toml.dpkg-new"] {
        let mut case = Case::new();
        case.event(0, WRITE, &[name]);
        case.event(0, CLOSE, &[name]);
        assert_eq!(case.due(0), Due::Never, "{name}");
    }
}

#[test]
fn a_lost_notification_arms_everything_anew() {
    let mut case = Case::new();
    let event = Event::new(EventKind::Other).set_flag(Flag::Rescan);
    case.pending.note(&event, &[PathBuf::from(FLOWS)], case.t0);
    assert_eq!(case.pending.take_replaced(), BTreeSet::from([PathBuf::from(FLOWS)]));
    assert_ne!(case.due(0), Due::Never);
}

#[test]
fn a_change_of_mode_is_a_change() {
    let mut case = Case::new();
    case.event(0, EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any)), &["a.toml"]);
    assert_eq!(case.next(0), Some(50));
}

#[test]
fn a_file_that_went_away_is_busy_until_its_successor_should_be_there() {
    for (gone, back) in [(EventKind::Remove(RemoveKind::File), EventKind::Create(CreateKind::File)), (FROM, TO)] {
        let mut case = Case::new();
        let busy = |case: &mut Case, at| case.pending.busy(case.t0 + MS(at)).count();
        case.event(0, gone, &["a.toml"]);
        case.pending.taken();
        assert_eq!(busy(&mut case, 149), 1);
        assert_eq!(case.next(149), Some(150), "it is looked for again");
        assert_eq!(busy(&mut case, 150), 0);
        case.event(200, gone, &["a.toml"]);
        case.event(210, back, &["a.toml"]);
        case.pending.taken();
        assert_eq!(busy(&mut case, 220), 0);
    }
}
