//! What goes from peer to peer in the tests: a real transport stream, and datagrams that are numbered.

use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;
use std::sync::OnceLock;

use super::media::SEVEN;
use super::peers::command;

/// The stream's bit rate; its tables, its picture, its sound and null packets together are exactly that.
pub const BITS_PER_SECOND: u64 = 3_000_000;
/// How ffmpeg makes it: 20 s of picture and sound.
const RECIPE: &str = "-f lavfi -i testsrc=size=640x360:rate=25 -f lavfi -i sine=frequency=1000:sample_rate=48000 \
    -t 20 -c:v libx264 -threads 1 -preset ultrafast -pix_fmt yuv420p -g 25 -b:v 2400k -minrate 2400k -maxrate 2400k \
    -bufsize 1200k -x264-params nal-hrd=cbr -c:a aac -b:a 128k -f mpegts -muxrate 3M";

/// The stream: whole datagrams of seven packets. Made once, and kept with the build.
#[track_caller]
pub fn stream() -> &'static [u8] {
    static STREAM: OnceLock<Vec<u8>> = OnceLock::new();
    STREAM.get_or_init(|| {
        let bytes = made("testsrc-20s-3M.ts", RECIPE);
        assert!(bytes.len() > 5000 * SEVEN, "the stream is whole");
        bytes
    })
}

/// What ffmpeg makes by a recipe: whole datagrams of seven packets. Made once, and kept with the build under this name.
#[track_caller]
pub fn made(name: &str, recipe: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let lock = File::create(path.with_extension("lock")).expect("a lock file");
    lock.lock().expect("the lock");
    if !path.exists() {
        make(&path, recipe);
    }
    let mut bytes = fs::read(&path).expect("the stream");
    bytes.truncate(bytes.len() / SEVEN * SEVEN);
    bytes
}

#[track_caller]
fn make(path: &Path, recipe: &str) {
    let new = path.with_extension("new");
    let mut ffmpeg = command("ffmpeg");
    ffmpeg.args("-hide_banner -loglevel error -nostdin -y".split(' ')).args(recipe.split_whitespace()).arg(&new);
    let status = ffmpeg.stdin(Stdio::null()).status().expect("ffmpeg starts");
    assert!(status.success(), "ffmpeg: {status}");
    fs::rename(new, path).expect("the stream gets its name");
}

/// A null packet seven times, which is no part of any stream: what is sent when the stream has ended, so that no peer's
/// buffer holds the stream's end back and that a loss at its end is noticed.
pub fn stuffing() -> Vec<u8> {
    numbered(STUFFING)
}

/// The number that stuffing bears.
pub const STUFFING: u64 = u64::MAX;

/// Seven null packets that bear a number.
pub fn numbered(number: u64) -> Vec<u8> {
    let mut datagram = [&[0x47, 0x1F, 0xFF, 0x10][..], &[0xFF; 184]].concat().repeat(7);
    datagram[4..12].copy_from_slice(&number.to_be_bytes());
    datagram
}

/// The numbers of numbered datagrams, in the order they came. What is not whole at the end does not count.
///
/// # Panics
/// They are not numbered, or not whole.
#[track_caller]
pub fn numbers(bytes: &[u8]) -> Vec<u64> {
    let number = |datagram: &[u8]| {
        let number = u64::from_be_bytes(datagram[4..12].try_into().expect("eight bytes"));
        assert!(datagram == numbered(number), "a datagram is changed: {:02X?}…", &datagram[..16]);
        number
    };
    bytes.chunks_exact(SEVEN).map(number).collect()
}

/// All that was sent came first, byte by byte: stricter than any sum of it, and where they differ is said.
#[track_caller]
pub fn assert_same(came: &[u8], sent: &[u8]) {
    let came = &came[..came.len().min(sent.len())];
    let differs = came.chunks(SEVEN).zip(sent.chunks(SEVEN)).position(|(a, b)| a != b);
    assert_eq!((differs, came.len()), (None, sent.len()), "what came is what was sent, byte by byte");
}
