//! The sequence parameter set of H.264 (ITU-T H.264, sections 7.3.2.1.1 and E.1.1).

use super::bits::Bits;
use super::video::{Chroma, FrameRate, Scan, Video, nal_units};

/// The picture that an access unit's parameter set describes.
pub(super) fn video(stream: &[u8]) -> Option<Video> {
    nal_units(stream).filter(|unit| unit[0] & 0x1F == 7).find_map(|unit| parameter_set(&unit[1..]))
}

fn parameter_set(unit: &[u8]) -> Option<Video> {
    let mut bits = Bits::of_nal_unit(unit);
    let video = until_vui(&mut bits)?;
    Some(Video { frame_rate: if bits.bit()? { frame_rate(&mut bits) } else { None }, ..video })
}

/// The places of two bits in a NAL unit's bytes after the first: the flag that says that it is said how far pictures may
/// be out of order, and the bit after it. `None`: it is no parameter set, or says nothing of it.
pub(crate) fn order_said(unit: &[u8]) -> Option<[usize; 2]> {
    let mut bits = Bits::of_nal_unit(unit);
    until_vui(&mut bits)?;
    if !bits.bit()? {
        return None;
    }
    skip_vui_colour(&mut bits)?;
    if bits.bit()? {
        bits.skip(65)?;
    }
    let mut buffers = 0;
    for _ in 0..2 {
        if bits.bit()? {
            skip_buffer_model(&mut bits)?;
            buffers = 1;
        }
    }
    bits.skip(buffers + 1)?;
    let (said, at) = (bits.bit()?, bits.place());
    bits.bit()?;
    said.then_some([at, bits.place()])
}

/// The parameters of a hypothetical reference decoder (section E.1.2).
fn skip_buffer_model(bits: &mut Bits<'_>) -> Option<()> {
    let buffers = bits.golomb().filter(|more| *more < 32)? + 1;
    bits.skip(8)?;
    for _ in 0..buffers {
        bits.golomb()?;
        bits.golomb()?;
        bits.skip(1)?;
    }
    bits.skip(20)
}

/// All up to the flag of the VUI.
fn until_vui(bits: &mut Bits<'_>) -> Option<Video> {
    let (profile, constraints, level) = (bits.byte(8)?, bits.byte(8)?, bits.byte(8)?);
    bits.golomb()?;
    let (mut format, mut separate, mut bit_depth) = (1, false, 8);
    if matches!(profile, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135) {
        format = bits.golomb()?;
        separate = format == 3 && bits.bit()?;
        bit_depth = u8::try_from(bits.golomb()?).ok().filter(|extra| *extra <= 6)? + 8;
        bits.golomb()?;
        bits.skip(1)?;
        if bits.bit()? {
            for list in 0..if format == 3 { 12 } else { 8 } {
                if bits.bit()? {
                    scaling_list(bits, if list < 6 { 16 } else { 64 })?;
                }
            }
        }
    }
    bits.golomb()?;
    match bits.golomb()? {
        0 => _ = bits.golomb()?,
        1 => {
            bits.skip(1)?;
            bits.signed_golomb()?;
            bits.signed_golomb()?;
            for _ in 0..bits.golomb().filter(|cycle| *cycle <= 255)? {
                bits.signed_golomb()?;
            }
        }
        _ => {}
    }
    bits.golomb()?;
    bits.skip(1)?;
    let (width, height) = (bits.golomb()?.checked_add(1)?, bits.golomb()?.checked_add(1)?);
    let frames_only = bits.bit()?;
    bits.skip(if frames_only { 1 } else { 2 })?;
    let fields = if frames_only { 1 } else { 2 };
    let chroma = Chroma::of(format)?;
    let (unit_width, unit_height) = if separate { (1, 1) } else { chroma.subsampling() };
    let crop = crop(bits, unit_width, unit_height * fields)?;
    Some(Video {
        width: size(width.checked_mul(16)?, crop.0)?,
        height: size(height.checked_mul(16 * fields)?, crop.1)?,
        frame_rate: None,
        scan: if frames_only { Scan::Progressive } else { Scan::Interlaced },
        chroma,
        bit_depth,
        profile: profile_name(profile, constraints),
        level,
    })
}

/// What is cut off in width and height.
pub(super) fn crop(bits: &mut Bits<'_>, unit_width: u32, unit_height: u32) -> Option<(u32, u32)> {
    if !bits.bit()? {
        return Some((0, 0));
    }
    let mut side = |unit: u32| bits.golomb()?.checked_add(bits.golomb()?)?.checked_mul(unit);
    Some((side(unit_width)?, side(unit_height)?))
}

/// A size less what is cut off, if it is one.
pub(super) fn size(whole: u32, cut: u32) -> Option<u16> {
    u16::try_from(whole.checked_sub(cut)?).ok().filter(|size| *size > 0)
}

fn scaling_list(bits: &mut Bits<'_>, size: u32) -> Option<()> {
    let (mut last, mut next) = (8_i32, 8_i32);
    for _ in 0..size {
        if next != 0 {
            next = last.wrapping_add(bits.signed_golomb()?) & 0xFF;
        }
        last = if next == 0 { last } else { next };
    }
    Some(())
}

/// The beginning of the VUI, which H.265 shares: up to the position of chroma samples.
pub(super) fn skip_vui_colour(bits: &mut Bits<'_>) -> Option<()> {
    if bits.bit()? && bits.bits(8)? == 255 {
        bits.skip(32)?;
    }
    if bits.bit()? {
        bits.skip(1)?;
    }
    if bits.bit()? {
        bits.skip(4)?;
        if bits.bit()? {
            bits.skip(24)?;
        }
    }
    if bits.bit()? {
        bits.golomb()?;
        bits.golomb()?;
    }
    Some(())
}

fn frame_rate(bits: &mut Bits<'_>) -> Option<FrameRate> {
    skip_vui_colour(bits)?;
    if !bits.bit()? {
        return None;
    }
    let (units, scale) = (bits.bits(32)?, bits.bits(32)?);
    // A tick is a field.
    FrameRate::new(scale, units.checked_mul(2)?)
}

const fn profile_name(profile: u8, constraints: u8) -> Option<&'static str> {
    Some(match profile {
        66 if constraints & 0x40 != 0 => "Constrained Baseline",
        66 => "Baseline",
        77 => "Main",
        88 => "Extended",
        100 => "High",
        110 if constraints & 0x10 != 0 => "High 10 Intra",
        110 => "High 10",
        122 if constraints & 0x10 != 0 => "High 4:2:2 Intra",
        122 => "High 4:2:2",
        244 if constraints & 0x10 != 0 => "High 4:4:4 Intra",
        244 => "High 4:4:4 Predictive",
        44 => "CAVLC 4:4:4",
        _ => return None,
    })
}
