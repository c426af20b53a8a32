use std::fs;
use std::os::unix::fs::symlink;

use super::*;
use crate::config::testing::as_nobody;

const PASSPHRASE: &str = "correct horse battery";

/// A configuration directory with keys, and what systemd handed over.
struct Site {
    dir: tempfile::TempDir,
    credentials: Option<PathBuf>,
    busy: BTreeSet<PathBuf>,
    by_daemon: bool,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(FOLDER)).unwrap();
        Self { dir, credentials: None, busy: BTreeSet::new(), by_daemon: true }
    }

    /// With a key file of this mode.
    fn key(self, name: &str, text: impl AsRef<[u8]>, mode: u32) -> Self {
        write(&self.path(name), text.as_ref(), mode);
        self
    }

    /// With a key that systemd handed over.
    fn credential(mut self, name: &str, text: &str) -> Self {
        let folder = self.dir.path().join("credentials");
        fs::create_dir_all(&folder).unwrap();
        write(&folder.join(name), text.as_bytes(), 0o400);
        self.credentials = Some(folder);
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(FOLDER).join(name)
    }

    fn secrets(&self) -> Secrets {
        let (credentials, by_daemon) = (self.credentials.as_deref(), self.by_daemon);
        Secrets::new(self.dir.path(), &Context { credentials, by_daemon, busy: &self.busy, ..Context::default() })
    }

    fn find(&self, name: &str) -> Result<Found, SecretError> {
        self.secrets().find(&name.parse().unwrap(), Form::Passphrase)
    }

    /// The passphrase, or what is said in its place.
    fn read(&self, name: &str) -> Result<String, String> {
        let found = self.find(name).map(|found| String::from_utf8(found.secret.bytes().to_vec()).unwrap());
        let root = format!("{}/", self.dir.path().display());
        found.map_err(|error| error.to_string().replace(&root, ""))
    }
}

fn write(path: &Path, text: &[u8], mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn of(text: impl AsRef<[u8]>) -> Result<String, String> {
    Site::new().key("k", text, 0o640).read("k")
}

#[test]
fn one_line_break_at_the_end_is_not_of_the_key() {
    for end in ["", "\n", "\r\n"] {
        assert_eq!(of(format!("{PASSPHRASE}{end}")).as_deref(), Ok(PASSPHRASE));
    }
    for end in ["\n\n", "\r", "\n\r\n", "\r\r\n", "\n \n"] {
        assert_eq!(
            of(format!("{PASSPHRASE}{end}")).unwrap_err(),
            "key file secrets/k has more than one line",
            "{end:?}"
        );
    }
    assert_eq!(of(format!(" {PASSPHRASE} \n")), Ok(format!(" {PASSPHRASE} ")), "blanks are");
}

#[test]
fn a_passphrase_has_10_to_79_bytes() {
    let of_length = |bytes| of("x".repeat(bytes)).map(|text| text.len());
    assert_eq!([10, 79].map(of_length), [Ok(10), Ok(79)]);
    assert_eq!(of_length(9).unwrap_err(), "key file secrets/k holds a passphrase that is too short");
    assert_eq!(of_length(80).unwrap_err(), "key file secrets/k holds a passphrase that is too long");
    assert_eq!(of("ä".repeat(39)).map(|text| text.len()), Ok(78), "bytes count, not characters");
    assert!(of("ä".repeat(40)).is_err());
    assert_eq!(of("\n").unwrap_err(), "key file secrets/k is empty");
    assert!(of("x".repeat(4096)).unwrap_err().ends_with("is too long"));
    assert_eq!(of("x".repeat(4097)).unwrap_err(), "key file secrets/k is larger than 4 KiB, which no such file is");
}

#[test]
fn what_an_editor_saved_in_another_coding_is_no_passphrase() {
    let utf_16: Vec<_> = PASSPHRASE.encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(of(utf_16).unwrap_err(), "key file secrets/k holds zero bytes, which no passphrase has");
    assert_eq!(of(format!("\u{feff}{PASSPHRASE}")).unwrap_err(), "key file secrets/k begins with a byte order mark");
}

#[test]
fn a_key_that_everyone_could_read_or_write_is_refused() {
    for mode in [0o400, 0o440, 0o600, 0o640, 0o660, 0o641] {
        assert!(Site::new().key("k", PASSPHRASE, mode).read("k").is_ok(), "{mode:o}");
    }
    let refused = |mode| Site::new().key("k", PASSPHRASE, mode).read("k").unwrap_err();
    for mode in [0o604, 0o644, 0o646, 0o664] {
        assert_eq!(refused(mode), "key file secrets/k can be read by everyone", "{mode:o}");
    }
    assert_eq!(refused(0o642), "key file secrets/k can be written by everyone");
}

#[test]
fn of_a_link_the_file_counts_that_it_leads_to() {
    let site = Site::new().key("good", PASSPHRASE, 0o640).key("open", PASSPHRASE, 0o644);
    for (link, target) in [("a", "good"), ("b", "open"), ("c", "nowhere"), ("d", "/dev/zero"), ("e", ".")] {
        symlink(target, site.path(link)).unwrap();
    }
    assert_eq!(site.read("a").as_deref(), Ok(PASSPHRASE));
    assert_eq!(site.read("b").unwrap_err(), "key file secrets/b can be read by everyone");
    assert_eq!(site.read("c").unwrap_err(), "there is no key file secrets/c");
    assert_eq!(site.read("d").unwrap_err(), "key file secrets/d is a device, not a file");
    assert_eq!(site.read("e").unwrap_err(), "key file secrets/e is a directory, not a file");
}

#[test]
fn credentials_of_systemd_go_before_files() {
    let site = Site::new().key("both", "from the file", 0o640).key("file", "from the file", 0o640);
    let site = site.credential("both", "a credential").credential("alone", "a credential\n");
    let from = |name| site.find(name).unwrap().from_credentials;
    assert_eq!((site.read("both").as_deref(), from("both")), (Ok("a credential"), true));
    assert_eq!((site.read("alone").as_deref(), from("alone")), (Ok("a credential"), true));
    assert_eq!((site.read("file").as_deref(), from("file")), (Ok("from the file"), false));
    let missing = "there is no key file secrets/none, nor one in $CREDENTIALS_DIRECTORY";
    assert_eq!(site.read("none").unwrap_err(), missing);
    assert!(site.read("both/deeper").is_err(), "a file is no directory");
    // One that is refused there is not looked for elsewhere.
    assert!(site.credential("file", "short").read("file").unwrap_err().ends_with("is too short"));
}

#[test]
fn absolute_paths_stand_for_themselves() {
    let site = Site::new().key("k", PASSPHRASE, 0o640).credential("k", "a credential");
    let (path, missing) = (site.path("k"), site.path("none"));
    assert_eq!(site.read(path.to_str().unwrap()).as_deref(), Ok(PASSPHRASE));
    assert_eq!(site.read(missing.to_str().unwrap()).unwrap_err(), "there is no key file secrets/none");
}

#[test]
fn a_name_does_not_lead_out_of_its_folder() {
    for name in ["", ".", "..", "../x", "a/../../x", "a/..", "./x", "a\0b", "a\nb"] {
        assert!(name.parse::<KeyName>().is_err(), "{name:?}");
    }
    for name in ["a", "a.b", "..a", "a/b", ".hidden", "with blank", "/etc/key", "/etc/../key"] {
        assert!(name.parse::<KeyName>().is_ok(), "{name:?}");
    }
    let site = Site::new();
    fs::create_dir(site.path("venues")).unwrap();
    assert_eq!(site.key("venues/a", PASSPHRASE, 0o640).read("venues/a").as_deref(), Ok(PASSPHRASE));
}

#[test]
fn a_key_that_is_being_written_is_not_read() {
    let mut site = Site::new().key("k", PASSPHRASE, 0o640);
    site.busy = [site.path("k"), site.path("gone")].into();
    assert_eq!(site.find("k"), Err(SecretError::Busy(site.path("k"))));
    assert_eq!(site.find("gone"), Err(SecretError::Busy(site.path("gone"))));
    site.busy = ["secrets/k".into()].into();
    assert_eq!(site.find("k"), Err(SecretError::Busy(site.path("k"))), "named from the directory on");
}

#[test]
fn a_key_is_read_once_each_time() {
    let site = Site::new().key("k", PASSPHRASE, 0o640);
    let (secrets, name) = (site.secrets(), "k".parse().unwrap());
    let first = secrets.find(&name, Form::Passphrase).unwrap();
    write(&site.path("k"), b"something else", 0o640);
    assert_eq!(secrets.find(&name, Form::Passphrase), Ok(first.clone()), "all that name it have the same");
    assert_ne!(site.secrets().find(&name, Form::Passphrase), Ok(first));
}

#[test]
fn what_only_the_daemon_may_read_is_no_fault_to_others() {
    let mut site = Site::new().key("k", PASSPHRASE, 0o200);
    fs::set_permissions(site.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let error = as_nobody(|| site.find("k")).unwrap_err();
    assert_eq!(error.to_string(), format!("key file {} cannot be read: permission denied", site.path("k").display()));
    assert!(!site.secrets().may_be_readable(&error));
    site.by_daemon = false;
    assert!(site.secrets().may_be_readable(&error));
    let missing = site.find("none").unwrap_err();
    assert!(!site.secrets().may_be_readable(&missing));
}

#[test]
fn a_content_key_is_32_hexadecimal_digits() {
    let key = |text: &str| {
        let found = Site::new().key("k", text, 0o640).secrets().find(&"k".parse().unwrap(), Form::ContentKey);
        found.map(|found| found.secret.bytes().to_vec())
    };
    let digits = "00112233445566778899aAbBcCdDeEfF";
    let bytes: Vec<_> = (0..16).map(|n| n * 0x11).collect();
    assert_eq!([key(digits), key(&format!("{digits}\r\n"))], [Ok(bytes.clone()), Ok(bytes)]);
    let spaced = format!(" {digits}");
    for text in ["", &digits[1..], &spaced, "0x112233445566778899aabbccddeeff", "+0112233445566778899aabbccddeeff"] {
        let error = key(text).unwrap_err().to_string();
        assert!(error.ends_with("holds no key of 32 hexadecimal digits"), "{text}: {error}");
    }
}

#[test]
fn nothing_that_is_shown_has_a_key_in_it() {
    let site = Site::new().key("k", PASSPHRASE, 0o640).key("lines", format!("{PASSPHRASE}\nx"), 0o640);
    let found = site.find("k").unwrap();
    let passphrase = KeyFile::new(&"k".parse().unwrap(), found.secret.clone());
    let refused = site.find("lines").unwrap_err();
    let shown = format!("{found:?} {passphrase:?} {refused:?} {refused} {:?} {:?}", refused.help(), site.secrets());
    assert!(shown.contains("KeyFile(\"k\")"), "{shown}");
    assert!(PASSPHRASE.split(' ').all(|word| !shown.contains(word)), "{shown}");
}

#[test]
fn keys_are_equal_by_what_is_in_them_and_passphrases_by_their_file_too() {
    let secret = |text: &str| Arc::new(Secret::new(text.as_bytes()));
    assert_eq!(secret("0123456789"), secret("0123456789"));
    for other in ["0123456788", "1123456789", "012345678", "01234567890", ""] {
        assert_ne!(secret("0123456789"), secret(other), "{other}");
    }
    let passphrase = |name: &str, text| KeyFile::new(&name.parse().unwrap(), secret(text));
    assert_eq!(passphrase("a", "0123456789"), passphrase("a", "0123456789"));
    assert_ne!(passphrase("a", "0123456789"), passphrase("a", "0123456788"));
    assert_ne!(passphrase("a", "0123456789"), passphrase("b", "0123456789"));
}
