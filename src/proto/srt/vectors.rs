//! Golden vectors: packets of libsrt 1.5.1, captured with the passphrase `0123456789ab` and the stream ID `ABCDEFG`.

/// Bytes from hexadecimal digits; spaces between them count for nothing.
pub(crate) fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.as_chunks::<2>().0.iter().map(|[high, low]| u8::try_from(high << 4 | low).unwrap()).collect()
}
