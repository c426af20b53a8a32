//! Golden vectors: packets of libsrt 1.5.1, captured with the passphrase `0123456789ab` and the stream ID `ABCDEFG`.

/// Bytes from hexadecimal digits; spaces between them count for nothing.
pub(crate) fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.as_chunks::<2>().0.iter().map(|[high, low]| u8::try_from(high << 4 | low).unwrap()).collect()
}

/// The key material of the handshake: the even key.
pub(crate) const KM_1: &str = "12202901 00000000 02000200 00000404 b9dd1f7a472830b28de2628548445f7c
    cf8c669143dc1442933d7a6fb0312a8fdcf4d4eef2af58e1";
/// The key material of the first refresh: the same even key, and the odd one.
pub(crate) const KM_2: &str = "12202903 00000000 02000200 00000404 b9dd1f7a472830b28de2628548445f7c
    25e9443af6d974e25ed932ebedb6d783cdae5be3df4c17a7827da9ace99d9f6be75dc62e894fa841";
/// What both were wrapped with.
pub(crate) const PASSPHRASE: &[u8] = b"0123456789ab";

/// A caller's first packet.
pub(crate) const INDUCTION: &str = "80000000 00000000 000001b7 00000000
    00000004 00000002 5f5bf8a5 000005dc 00002000 00000001 05f598cc 00000000 0100007f 00000000 00000000 00000000";
/// The listener's answer to it.
pub(crate) const INDUCED: &str = "80000000 00000000 0007ca1a 05f598cc
    00000005 00004a17 5f5bf8a5 000005dc 00002000 00000001 05f598cc cfc7cf27 0100007f 00000000 00000000 00000000";
/// The caller's second packet: HSREQ, SID, KMREQ.
pub(crate) const CONCLUSION: &str = "80000000 00000000 000004be 00000000
    00000005 00000007 5f5bf8a5 000005dc 00002000 ffffffff 05f598cc cfc7cf27 0100007f 00000000 00000000 00000000
    00010003 00010501 000000bf 00780000 00050002 44434241 00474645 0003000e
    12202901 00000000 02000200 00000404 b9dd1f7a472830b28de2628548445f7c
    cf8c669143dc1442933d7a6fb0312a8fdcf4d4eef2af58e1";
/// The listener's answer to that: HSRSP, KMRSP.
pub(crate) const CONCLUDED: &str = "80000000 00000000 0000069b 05f598cc
    00000005 00000003 5f5bf8a5 000005dc 00002000 ffffffff 2f88e7ca cfc7cf27 0100007f 00000000 00000000 00000000
    00020003 00010501 000000bf 00780078 0004000e
    12202901 00000000 02000200 00000404 b9dd1f7a472830b28de2628548445f7c
    cf8c669143dc1442933d7a6fb0312a8fdcf4d4eef2af58e1";
