//! The sequence parameter set of HEVC (ITU-T H.265, sections 7.3.2.2, 7.3.3, 7.3.7 and E.2.1).

use super::bits::Bits;
use super::h264::{crop, size, skip_vui_colour};
use super::video::{Chroma, FrameRate, Scan, Video, nal_units};

/// The picture that an access unit's parameter set describes.
pub(super) fn video(stream: &[u8]) -> Option<Video> {
    nal_units(stream).filter(|unit| unit[0] >> 1 & 0x3F == 33).find_map(|unit| parameter_set(unit.get(2..)?))
}

fn parameter_set(unit: &[u8]) -> Option<Video> {
    let mut bits = Bits::of_nal_unit(unit);
    bits.skip(4)?;
    let sub_layers = bits.bits(3)?;
    bits.skip(1)?;
    bits.skip(3)?;
    let profile = bits.byte(5)?;
    bits.skip(32)?;
    let (progressive, interlaced) = (bits.bit()?, bits.bit()?);
    bits.skip(46)?;
    let level = bits.byte(8)?;
    skip_sub_layers(&mut bits, sub_layers)?;
    bits.golomb()?;
    let format = bits.golomb()?;
    let separate = format == 3 && bits.bit()?;
    let chroma = Chroma::of(format)?;
    let (width, height) = (bits.golomb()?, bits.golomb()?);
    let (unit_width, unit_height) = if separate { (1, 1) } else { chroma.subsampling() };
    let crop = crop(&mut bits, unit_width, unit_height)?;
    let bit_depth = u8::try_from(bits.golomb()?).ok().filter(|extra| *extra <= 8)? + 8;
    bits.golomb()?;
    Some(Video {
        width: size(width, crop.0)?,
        height: size(height, crop.1)?,
        frame_rate: frame_rate(&mut bits, sub_layers),
        scan: if interlaced && !progressive { Scan::Interlaced } else { Scan::Progressive },
        chroma,
        bit_depth,
        profile: match profile {
            1 => Some("Main"),
            2 => Some("Main 10"),
            3 => Some("Main Still Picture"),
            4 => Some("Rext"),
            _ => None,
        },
        level,
    })
}

/// What the profile and level say of sub-layers.
fn skip_sub_layers(bits: &mut Bits<'_>, sub_layers: u32) -> Option<()> {
    let mut present = [(false, false); 8];
    for at in present.iter_mut().take(sub_layers as usize) {
        *at = (bits.bit()?, bits.bit()?);
    }
    if sub_layers > 0 {
        bits.skip(2 * (8 - sub_layers))?;
    }
    for (profile, level) in present {
        bits.skip(if profile { 88 } else { 0 } + if level { 8 } else { 0 })?;
    }
    Some(())
}

/// The frame rate at the end of the parameter set.
fn frame_rate(bits: &mut Bits<'_>, sub_layers: u32) -> Option<FrameRate> {
    let order_bits = bits.golomb().filter(|extra| *extra <= 12)? + 4;
    let all = bits.bit()?;
    for _ in 0..if all { sub_layers + 1 } else { 1 } {
        golombs(bits, 3)?;
    }
    golombs(bits, 6)?;
    if bits.bit()? && bits.bit()? {
        skip_scaling_lists(bits)?;
    }
    bits.skip(2)?;
    if bits.bit()? {
        bits.skip(8)?;
        golombs(bits, 2)?;
        bits.skip(1)?;
    }
    skip_reference_sets(bits)?;
    if bits.bit()? {
        for _ in 0..bits.golomb().filter(|count| *count <= 32)? {
            bits.skip(order_bits + 1)?;
        }
    }
    bits.skip(2)?;
    if !bits.bit()? {
        return None;
    }
    skip_vui_colour(bits)?;
    bits.skip(1)?;
    let fields = bits.bit()?;
    bits.skip(1)?;
    if bits.bit()? {
        golombs(bits, 4)?;
    }
    if !bits.bit()? {
        return None;
    }
    let (units, scale) = (bits.bits(32)?, bits.bits(32)?);
    FrameRate::new(scale, units.checked_mul(if fields { 2 } else { 1 })?)
}

fn golombs(bits: &mut Bits<'_>, count: u32) -> Option<()> {
    (0..count).try_for_each(|_| bits.golomb().map(|_| ()))
}

fn skip_scaling_lists(bits: &mut Bits<'_>) -> Option<()> {
    for size in 0..4_u32 {
        for _ in 0..if size == 3 { 2 } else { 6 } {
            if !bits.bit()? {
                bits.golomb()?;
                continue;
            }
            let dc = u32::from(size > 1);
            golombs(bits, 64.min(1 << (4 + 2 * size)) + dc)?;
        }
    }
    Some(())
}

/// The short-term reference picture sets.
fn skip_reference_sets(bits: &mut Bits<'_>) -> Option<()> {
    let count = bits.golomb().filter(|count| *count <= 64)?;
    let mut pictures = 0_u32;
    for set in 0..count {
        if set > 0 && bits.bit()? {
            // It follows from the one before: a picture that is neither used nor kept falls out.
            bits.skip(1)?;
            bits.golomb()?;
            let mut kept = 0;
            for _ in 0..=pictures {
                let used = bits.bit()?;
                kept += u32::from(used || bits.bit()?);
            }
            pictures = kept;
        } else {
            let (negative, positive) = (bits.golomb()?, bits.golomb()?);
            pictures = negative.checked_add(positive).filter(|pictures| *pictures <= 32)?;
            for _ in 0..pictures {
                bits.golomb()?;
                bits.skip(1)?;
            }
        }
    }
    Some(())
}
