//! How ffmpeg is asked, and what its log says.
//!
//! Each picture and each stretch of sound is told of by a line of its own, with its time in the stream: what that means is
//! for others to say. Only key frames are decoded, one after the other: frames that wait for those between them would come
//! late.

use std::fmt::Write;

use super::choice::Choice;
use super::wire::Wanted;
use crate::observe::text::cut;

/// The program.
pub(super) const PROGRAM: &str = "ffmpeg";
/// Of a picture; its height follows from its shape.
const WIDTH: u32 = 480;
/// Samples that are judged together: a sixth of a second at 48 kHz.
const SAMPLES: u32 = 8192;
/// The names that the lines of a picture and of sound begin with.
const PICTURE: &str = "metadata@picture";
const SOUND: &str = "ametadata@sound";
/// The last line of each picture.
const END: &str = "end";
const PEAK: &str = "lavfi.astats.Overall.Peak_level";
/// An error as it is told, in bytes.
const LONGEST_ERROR: usize = 200;

/// Its arguments: transport stream comes on standard input, pictures leave on standard output.
pub(super) fn arguments(wanted: &Wanted, choice: &Choice) -> Vec<String> {
    let mut all = words("-hide_banner -nostdin -nostats -loglevel repeat+level+info");
    // Tables that name what never comes would be waited for.
    all.extend(words("-probesize 5M -analyzeduration 2M -fpsprobesize 0 -scan_all_pmts 0"));
    all.extend(words("-threads 1 -skip_frame:v nokey -flags:v +low_delay -f mpegts -i pipe:0"));
    if let Some(pid) = choice.picture {
        all.extend(["-map".to_owned(), format!("0:i:{pid}"), "-vf".to_owned(), pictures(wanted)]);
        all.extend(words("-fps_mode passthrough"));
        all.extend(words(match wanted.thumbnails {
            Some(_) => "-c:v mjpeg -q:v 4 -threads 1 -f mpjpeg -flush_packets 1 pipe:1",
            None => "-f null -",
        }));
    }
    if let Some(pid) = choice.sound {
        let stretches = format!(
            "asetnsamples=n={SAMPLES}:p=0,astats=metadata=1:reset=1:measure_perchannel=none:measure_overall=Peak_level,\
             asettb=1/1000,{SOUND}=mode=print:key={PEAK}"
        );
        all.extend(["-map".to_owned(), format!("0:i:{pid}"), "-af".to_owned(), stretches]);
        all.extend(words("-f null -"));
    }
    all
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// What becomes of a picture. Black and frozen ones are told of at once: how long they last is counted here.
fn pictures(wanted: &Wanted) -> String {
    let mut chain = format!(
        "scale=w={WIDTH}:h='min({WIDTH},max(16,round({}/dar)*2))',setsar=1,format=yuv420p,\
         blackdetect=d=0:pic_th=0.98:pix_th=0.1,freezedetect=n=-60dB:d=0,settb=1/1000,\
         metadata=mode=add:key={END}:value=1,{PICTURE}=mode=print",
        WIDTH / 2
    );
    if let Some(every) = wanted.thumbnails {
        let every = every.as_secs_f64();
        let _ = write!(
            chain,
            ",select='isnan(prev_selected_t)+gte(t-prev_selected_t,{every})+lt(t,prev_selected_t)',\
             scale=out_range=full,format=yuvj420p"
        );
    }
    chain
}

/// What ffmpeg has seen or heard; `at` is its time in the stream, in ms.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Look {
    /// A picture; `frozen`: it is the same as the one before.
    Picture { at: i64, black: bool, frozen: bool },
    /// Some sound; its loudest sample, dBFS.
    Sound { at: i64, peak: f64 },
}

/// ffmpeg's log, line by line.
#[derive(Debug, Default)]
pub(super) struct Log {
    black: bool,
    frozen: bool,
    picture_at: i64,
    sound_at: i64,
    error: Option<String>,
}

impl Log {
    /// Read a line; something was seen or heard when it is the last of it.
    pub(super) fn line(&mut self, line: &str) -> Option<Look> {
        if let Some(text) = said_by(PICTURE, line) {
            if let Some(at) = time(text, self.picture_at) {
                self.picture_at = at;
                return None;
            }
            // One that moves is the start and the end of a spell at once.
            match text.split_once('=')?.0 {
                "lavfi.black_start" => self.black = true,
                "lavfi.black_end" => self.black = false,
                "lavfi.freezedetect.freeze_start" => self.frozen = true,
                "lavfi.freezedetect.freeze_end" => self.frozen = false,
                END => return Some(Look::Picture { at: self.picture_at, black: self.black, frozen: self.frozen }),
                _ => {}
            }
        } else if let Some(text) = said_by(SOUND, line) {
            if let Some(at) = time(text, self.sound_at) {
                self.sound_at = at;
                return None;
            }
            let peak = text.strip_prefix(PEAK)?.strip_prefix('=')?.parse().ok()?;
            return Some(Look::Sound { at: self.sound_at, peak });
        } else if ["[error] ", "[fatal] "].iter().any(|level| line.contains(level)) {
            self.error = Some(cut(line, LONGEST_ERROR).to_owned());
        }
        None
    }

    /// The newest error.
    pub(super) fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }
}

/// What a filter of this name says: `[NAME @ 0x5581] [info] TEXT`.
fn said_by<'l>(name: &str, line: &'l str) -> Option<&'l str> {
    let rest = line.strip_prefix('[')?.strip_prefix(name)?.strip_prefix(" @ ")?;
    rest.split_once("] ")?.1.strip_prefix("[info] ")
}

/// The time in `frame:1    pts:2000    pts_time:2`; `before` where it has none. `None`: it is another line.
fn time(text: &str, before: i64) -> Option<i64> {
    let rest = text.strip_prefix("frame:")?;
    let pts = rest.split_whitespace().find_map(|word| word.strip_prefix("pts:"))?;
    Some(pts.parse().unwrap_or(before))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(text: &str) -> (Vec<Look>, Log) {
        let mut log = Log::default();
        let looks = text.lines().filter_map(|line| log.line(line.trim_start())).collect();
        (looks, log)
    }

    fn picture(at: i64, black: bool, frozen: bool) -> Look {
        Look::Picture { at, black, frozen }
    }

    #[test]
    fn each_picture_is_told_when_all_is_known_of_it() {
        let (looks, log) = looks(
            "[metadata@picture @ 0x55d0c8] [info] frame:0    pts:40      pts_time:0.04
             [metadata@picture @ 0x55d0c8] [info] end=1
             [blackdetect @ 0x55d0c0] [info] black_start:1.04 black_end:2.04 black_duration:1
             [metadata@picture @ 0x55d0c8] [info] frame:1    pts:1040    pts_time:1.04
             [metadata@picture @ 0x55d0c8] [info] lavfi.black_start=1.04
             [metadata@picture @ 0x55d0c8] [info] lavfi.freezedetect.freeze_start=0.04
             [metadata@picture @ 0x55d0c8] [info] lavfi.freezedetect.freeze_duration=1
             [metadata@picture @ 0x55d0c8] [info] lavfi.freezedetect.freeze_end=1.04
             [metadata@picture @ 0x55d0c8] [info] end=1
             [metadata@picture @ 0x55d0c8] [info] frame:2    pts:2040    pts_time:2.04
             [freezedetect @ 0x55d0b0] [info] lavfi.freezedetect.freeze_start: 1.04
             [metadata@picture @ 0x55d0c8] [info] lavfi.freezedetect.freeze_start=1.04
             [metadata@picture @ 0x55d0c8] [info] end=1
             [metadata@picture @ 0x55d0c8] [info] frame:3    pts:3040    pts_time:3.04
             [metadata@picture @ 0x55d0c8] [info] end=1
             [metadata@picture @ 0x55d0c8] [info] frame:4    pts:NOPTS   pts_time:NOPTS
             [metadata@picture @ 0x55d0c8] [info] lavfi.black_end=4.04
             [metadata@picture @ 0x55d0c8] [info] lavfi.freezedetect.freeze_duration=3
             [metadata@picture @ 0x55d0c8] [info] lavfi.freezedetect.freeze_end=4.04
             [metadata@picture @ 0x55d0c8] [info] end=1",
        );
        let expected = [
            picture(40, false, false),
            picture(1040, true, false),
            picture(2040, true, true),
            picture(3040, true, true),
            picture(3040, false, false),
        ];
        assert_eq!(looks, expected);
        assert_eq!(log.error(), None);
    }

    #[test]
    fn sound_is_told_by_its_loudest_sample_also_between_the_lines_of_a_picture() {
        let (looks, _) = looks(
            "[metadata@picture @ 0x1] [info] frame:0    pts:0       pts_time:0
             [ametadata@sound @ 0x2] [info] frame:0    pts:171     pts_time:0.171
             [metadata@picture @ 0x1] [info] end=1
             [ametadata@sound @ 0x2] [info] lavfi.astats.Overall.Peak_level=-18.061800
             [ametadata@sound @ 0x2] [info] frame:1    pts:341     pts_time:0.341
             [ametadata@sound @ 0x2] [info] lavfi.astats.Overall.Peak_level=-inf",
        );
        let sound = |at, peak| Look::Sound { at, peak };
        assert_eq!(looks, [picture(0, false, false), sound(171, -18.0618), sound(341, f64::NEG_INFINITY)]);
    }

    #[test]
    fn the_newest_error_is_kept_and_cut() {
        let (looks, log) = looks(
            "Input #0, mpegts, from 'pipe:0':
             [h264 @ 0x1] [error] non-existing PPS 0 referenced
             [error] pipe:0: Invalid data found when processing input
             [h264 @ 0x1] [warning] left block unavailable",
        );
        assert_eq!(looks, []);
        assert_eq!(log.error(), Some("[error] pipe:0: Invalid data found when processing input"));
        let mut log = Log::default();
        log.line(&format!("[error] {}", "ä".repeat(500)));
        assert!(log.error().is_some_and(|error| error.len() <= LONGEST_ERROR));
    }

    #[test]
    fn lines_that_only_look_like_ours_are_none() {
        let (looks, _) = looks(
            "[metadata@picture2 @ 0x1] [info] end=1
             metadata@picture @ 0x1] [info] end=1
             [metadata@picture @ 0x1 [info] end=1
             [metadata@picture @ 0x1] [info] end
             [metadata@picture @ 0x1] [info] frame:x
             [ametadata@sound @ 0x2] [info] lavfi.astats.Overall.Peak_level=loud
             [ametadata@sound @ 0x2] [info] lavfi.astats.Overall.Peak_levels=-1",
        );
        assert_eq!(looks, []);
    }
}
