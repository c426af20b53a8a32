//! Bits of a header, from the first on.

/// Reads bits. Beyond the end there is nothing: `None`.
#[derive(Debug, Clone)]
pub(super) struct Bits<'d> {
    data: &'d [u8],
    /// In bits.
    at: usize,
    /// Skip the byte 3 that encoders put between two zeros and a small byte.
    escaped: bool,
}

impl<'d> Bits<'d> {
    /// Bits as they stand.
    pub(super) const fn new(data: &'d [u8]) -> Self {
        Self { data, at: 0, escaped: false }
    }

    /// Bits of a NAL unit (ITU-T H.264 and H.265, section 7.3.1.1).
    pub(super) const fn of_nal_unit(data: &'d [u8]) -> Self {
        Self { data, at: 0, escaped: true }
    }

    /// Where the bit is that was read last.
    pub(super) const fn place(&self) -> usize {
        self.at - 1
    }

    pub(super) fn bit(&mut self) -> Option<bool> {
        let byte = self.at / 8;
        if self.escaped && self.at.is_multiple_of(8) && byte >= 2 && self.data.get(byte - 2..=byte) == Some(&[0, 0, 3])
        {
            self.at += 8;
        }
        let value = self.data.get(self.at / 8)? << (self.at % 8) & 0x80 != 0;
        self.at += 1;
        Some(value)
    }

    /// Up to 32 bits.
    pub(super) fn bits(&mut self, count: u32) -> Option<u32> {
        (0..count).try_fold(0, |value, _| Some(value << 1 | u32::from(self.bit()?)))
    }

    /// Up to 8 bits.
    pub(super) fn byte(&mut self, count: u32) -> Option<u8> {
        self.bits(count).map(|value| value as u8)
    }

    pub(super) fn skip(&mut self, count: u32) -> Option<()> {
        (0..count).try_for_each(|_| self.bit().map(|_| ()))
    }

    /// An unsigned Exp-Golomb code: ue(v).
    pub(super) fn golomb(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.bit()? {
            zeros += 1;
            if zeros == 32 {
                return None;
            }
        }
        Some((1 << zeros) - 1 + self.bits(zeros)?)
    }

    /// A signed Exp-Golomb code: se(v).
    pub(super) fn signed_golomb(&mut self) -> Option<i32> {
        let code = self.golomb()?;
        let half = code.div_ceil(2).cast_signed();
        Some(if code % 2 == 1 { half } else { -half })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_golomb_codes_are_read() {
        // 1, 010, 011, 00100, 00101
        let mut bits = Bits::new(&[0b1010_0110, 0b0100_0010, 0b1000_0000]);
        assert_eq!([(); 5].map(|()| bits.golomb()), [Some(0), Some(1), Some(2), Some(3), Some(4)]);
        let mut bits = Bits::new(&[0b1010_0110, 0b0100_0010, 0b1000_0000]);
        assert_eq!([(); 5].map(|()| bits.signed_golomb()), [Some(0), Some(1), Some(-1), Some(2), Some(-2)]);
        assert_eq!(Bits::new(&[0; 9]).golomb(), None, "no code has so many zeros");
        assert_eq!(Bits::new(&[0, 0, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF]).golomb(), Some(u32::MAX - 1));
    }

    #[test]
    fn escapes_are_skipped_in_nal_units_only() {
        let data = [0, 0, 3, 1, 0, 0, 3];
        assert_eq!(Bits::of_nal_unit(&data).bits(24), Some(1));
        assert_eq!(Bits::new(&data).bits(24), Some(3));
        let mut bits = Bits::of_nal_unit(&data);
        assert_eq!((bits.skip(24), bits.bits(16), bits.bit()), (Some(()), Some(0), None));
    }
}
