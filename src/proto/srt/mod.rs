//! SRT, as libsrt speaks it on the wire: live mode, handshake version 5, time-stamp based delivery, AES-CTR.
//!
//! Where libsrt and draft-sharabayko-srt differ, libsrt is followed, and the place says so. Not here: handshake
//! version 4, file mode, groups, packet filters and AES-GCM.
//!
//! In the order of a connection's life: a packet ([`packet`], [`control`]) with its numbers ([`seq`]); the handshake
//! ([`handshake`]) of a [`caller`], a [`listener`] or a [`rendezvous`], what each brings into it ([`terms`]), with what a
//! stream ID says ([`access`]) and with encryption ([`km`], [`crypto`]); what it comes to ([`negotiated`]); and the
//! connection that is made of it ([`connection`]), which sends ([`send`]), receives, replaces its keys ([`rekey`]) and
//! counts ([`stats`]).

pub mod access;
pub mod caller;
mod clock;
pub mod connection;
pub mod control;
pub mod crypto;
pub mod handshake;
pub mod km;
pub mod listener;
mod loss;
mod nak;
pub mod negotiated;
pub mod packet;
mod receive;
pub mod rekey;
pub mod rendezvous;
mod rtt;
pub mod send;
pub mod seq;
pub mod stats;
pub mod terms;
#[cfg(test)]
mod testing;
mod tsbpd;
#[cfg(test)]
mod vectors;
mod window;

/// The version of libsrt whose behaviour this follows, as it is told to the peer: 0x00MMmmpp, here 1.5.3.
pub const VERSION: u32 = 0x0001_0503;
/// Bytes of a UDP datagram's headers on IPv4, as `mss` counts them on both families.
pub const UDP_HEADERS: usize = 28;
/// The default `mss`, bytes of an IP packet.
pub const DEFAULT_MSS: u16 = 1500;
