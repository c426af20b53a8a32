//! The system calls that std, socket2 and nix don't have as we need them: messages in batches, each with its own control
//! data; the error queue; memberships by interface index; epoll with precise timeouts. The only unsafe code of the project.
//!
//! What is behind pointers is owned by the types here or borrowed for a lifetime they carry, so nothing a caller does
//! in safe code can make the kernel read or write memory that is not theirs.

#![allow(unsafe_code, reason = "the one room where it is allowed")]

use std::cell::Cell;
use std::io;
use std::marker::PhantomData;
use std::mem::size_of;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use libc::{c_int, c_uint};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

mod encoding;
#[cfg(test)]
mod tests;

use encoding::{CONTROL_BYTES, NAME_BYTES, Notes, array, control_messages};
pub(super) use encoding::{Control, Name};
#[cfg(test)]
pub(super) use tests::own_network;

/// One received message: the largest datagram, or what GRO makes of many. The odd lines above 64 KiB keep the slots from
/// falling into the same sets of the processor's caches.
const SLOT_BYTES: usize = 65_536 + 22 * 64;
/// Headers are copied into chunks of this size; larger than any datagram.
const CHUNK_BYTES: usize = 65_536;
/// Chunks kept from one session to the next.
const CHUNKS_KEPT: usize = 16;
/// As in asm-generic/socket.h; not in libc.
const SO_ATTACH_REUSEPORT_CBPF: c_int = 51;
/// Most messages in one system call.
pub(super) const SEND_BATCH: usize = 64;

/// Buffers and headers of one recvmmsg. They stay where they are on the heap for the ring's life.
pub(super) struct ReceiveRing {
    buffers: Vec<u8>,
    names: Vec<Name>,
    controls: Vec<Control>,
    // Held because the headers point at them.
    _iovecs: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
    /// What the kernel said of each message of the last call.
    notes: Vec<Notes>,
    /// Messages of the last call.
    filled: usize,
    /// Headers that the last call may have written to.
    dirty: usize,
}

/// One received message.
pub(super) struct Message<'a> {
    pub(super) payload: &'a [u8],
    pub(super) source: Option<SocketAddr>,
    pub(super) notes: Notes,
}

impl ReceiveRing {
    pub(super) fn new(slots: usize) -> Self {
        let mut buffers = vec![0_u8; slots * SLOT_BYTES];
        let mut names = vec![Name::EMPTY; slots];
        let mut controls = vec![Control::EMPTY; slots];
        let base = buffers.as_mut_ptr();
        let mut iovecs: Vec<_> = (0..slots)
            .map(|i| libc::iovec { iov_base: base.wrapping_add(i * SLOT_BYTES).cast(), iov_len: SLOT_BYTES })
            .collect();
        let (name, control, iovec) = (names.as_mut_ptr(), controls.as_mut_ptr(), iovecs.as_mut_ptr());
        let headers = (0..slots)
            .map(|i| {
                let mut h = blank_header();
                h.msg_name = name.wrapping_add(i).cast();
                h.msg_namelen = NAME_BYTES as u32;
                h.msg_control = control.wrapping_add(i).cast();
                h.msg_controllen = CONTROL_BYTES as _;
                h.msg_iov = iovec.wrapping_add(i);
                h.msg_iovlen = 1;
                libc::mmsghdr { msg_hdr: h, msg_len: 0 }
            })
            .collect();
        Self {
            buffers,
            names,
            controls,
            _iovecs: iovecs,
            headers,
            notes: vec![Notes::default(); slots],
            filled: 0,
            dirty: 0,
        }
    }

    pub(super) fn slots(&self) -> usize {
        self.headers.len()
    }

    pub(super) fn filled(&self) -> usize {
        self.filled
    }

    /// One recvmmsg without waiting: the number of messages, or the error of the first.
    pub(super) fn receive(&mut self, fd: BorrowedFd<'_>) -> io::Result<usize> {
        // The kernel leaves in these how much it wrote; without their old value it would have no room the next time.
        for h in &mut self.headers[..self.dirty] {
            h.msg_hdr.msg_namelen = NAME_BYTES as u32;
            h.msg_hdr.msg_controllen = CONTROL_BYTES as _;
        }
        self.filled = 0;
        self.dirty = 1.min(self.headers.len());
        let count = self.headers.len() as c_uint;
        let n = retry(|| {
            // SAFETY: `headers` has `count` entries; each points at a slot, a name, a control area and an iovec of this
            // ring, of the sizes it states, which live as long and which nothing borrows while we hold `&mut self`.
            unsafe {
                libc::recvmmsg(
                    fd.as_raw_fd(),
                    self.headers.as_mut_ptr(),
                    count,
                    libc::MSG_DONTWAIT as _,
                    ptr::null_mut(),
                )
            }
        })?;
        self.filled = n as usize;
        self.dirty = self.filled.max(self.dirty);
        let controls = self.controls.iter().zip(&self.headers);
        for (notes, (control, h)) in self.notes.iter_mut().zip(controls).take(self.filled) {
            *notes = Notes::read(control.bytes.get(..h.msg_hdr.msg_controllen).unwrap_or_default());
        }
        Ok(self.filled)
    }

    /// Message `i` of the last call.
    pub(super) fn message(&self, i: usize) -> Option<Message<'_>> {
        if i >= self.filled {
            return None;
        }
        let h = &self.headers[i];
        let len = (h.msg_len as usize).min(SLOT_BYTES);
        // SAFETY: slot `i` is within `buffers`, all of which is initialised; the kernel writes only in `receive`, which
        // needs `&mut self`.
        let payload = unsafe { std::slice::from_raw_parts(self.buffers.as_ptr().add(i * SLOT_BYTES), len) };
        Some(Message { payload, source: self.names[i].address(h.msg_hdr.msg_namelen as usize), notes: self.notes[i] })
    }

    /// What the kernel said of message `i` of the last call.
    pub(super) fn notes(&self, i: usize) -> Notes {
        self.notes[i]
    }

    /// Whether message `i` of the last call was longer than a slot.
    pub(super) fn truncated(&self, i: usize) -> bool {
        self.headers[i].msg_hdr.msg_flags & libc::MSG_TRUNC != 0
    }
}

fn blank_header() -> libc::msghdr {
    // SAFETY: msghdr is plain data; null pointers with lengths of zero are a valid one.
    unsafe { std::mem::zeroed() }
}

/// Calls again while a signal interrupts.
fn retry(mut call: impl FnMut() -> c_int) -> io::Result<c_int> {
    loop {
        let r = call();
        if r >= 0 {
            return Ok(r);
        }
        let e = io::Error::last_os_error();
        if e.kind() != io::ErrorKind::Interrupted {
            return Err(e);
        }
    }
}

/// One message to send: to whom, how, and which pieces of memory.
#[derive(Clone, Copy)]
pub(super) struct Wire {
    pub(super) name: Name,
    pub(super) control: Control,
    pub(super) pieces: Pieces,
}

/// A row of pieces of memory in a [`Lent`], by index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pieces {
    start: u32,
    end: u32,
}

/// What sending needs, kept from one session to the next for its capacity.
pub(super) struct Gatherer {
    iovecs: Vec<libc::iovec>,
    /// Copied headers. Chunks stay where they are on the heap.
    chunks: Vec<Vec<u8>>,
    /// The chunk in use, and how much of it is.
    chunk: usize,
    used: usize,
    headers: Vec<libc::mmsghdr>,
}

impl Gatherer {
    pub(super) fn new() -> Self {
        let header = libc::mmsghdr { msg_hdr: blank_header(), msg_len: 0 };
        Self {
            iovecs: Vec::with_capacity(256),
            chunks: vec![vec![0; CHUNK_BYTES]],
            chunk: 0,
            used: 0,
            headers: vec![header; SEND_BATCH],
        }
    }

    /// Starts anew with memory that lives for `'p`.
    pub(super) fn lend<'b, 'p>(&'b mut self) -> Lent<'b, 'p> {
        // A forgotten session leaves pointers here; no pointer of an old session is ever used.
        self.iovecs.clear();
        self.chunks.truncate(CHUNKS_KEPT);
        (self.chunk, self.used) = (0, 0);
        Lent { gatherer: self, payloads: PhantomData }
    }
}

/// A [`Gatherer`] with pieces of memory that live for `'p`, or in its own chunks.
pub(super) struct Lent<'b, 'p> {
    gatherer: &'b mut Gatherer,
    payloads: PhantomData<&'p [u8]>,
}

impl<'p> Lent<'_, 'p> {
    /// Adds a piece; one that begins where the last of `row` ends becomes part of it.
    pub(super) fn push(&mut self, row: &mut Pieces, payload: &'p [u8]) {
        let iovecs = &mut self.gatherer.iovecs;
        debug_assert_eq!(row.end as usize, iovecs.len(), "an older row can't grow");
        if payload.is_empty() {
            return;
        }
        if row.end > row.start
            && let Some(last) = iovecs.last_mut()
            && last.iov_base.cast_const().wrapping_byte_add(last.iov_len) == payload.as_ptr().cast()
        {
            last.iov_len += payload.len();
            return;
        }
        iovecs.push(libc::iovec { iov_base: payload.as_ptr().cast_mut().cast(), iov_len: payload.len() });
        row.end += 1;
    }

    /// Adds `len` bytes, at most [`CHUNK_BYTES`], that `fill` writes; what it leaves is whatever was there before.
    pub(super) fn push_made(&mut self, row: &mut Pieces, len: usize, fill: impl FnOnce(&mut [u8])) {
        let g = &mut *self.gatherer;
        let len = len.min(CHUNK_BYTES);
        if len == 0 {
            return;
        }
        if g.used + len > CHUNK_BYTES {
            g.chunk += 1;
            g.used = 0;
            if g.chunk == g.chunks.len() {
                g.chunks.push(vec![0; CHUNK_BYTES]);
            }
        }
        // SAFETY: `used + len` is at most the chunk's length (see above); all of a chunk is initialised. Nothing else
        // has a reference into this part of it, which is given out once in a session; the pointer kept below is read
        // only in `send` and `bytes`, when `fill` is over.
        let place = unsafe { std::slice::from_raw_parts_mut(g.chunks[g.chunk].as_mut_ptr().add(g.used), len) };
        let iov_base = place.as_mut_ptr().cast();
        fill(place);
        g.used += len;
        g.iovecs.push(libc::iovec { iov_base, iov_len: len });
        row.end += 1;
    }

    /// Whether a row can still grow: no other was made since.
    pub(super) fn can_grow(&self, row: Pieces) -> bool {
        row.end as usize == self.gatherer.iovecs.len()
    }

    /// An empty row at the end; pieces pushed from now on belong to it.
    pub(super) fn row(&self) -> Pieces {
        let at = self.gatherer.iovecs.len() as u32;
        Pieces { start: at, end: at }
    }

    /// A new row that is `len` bytes of `row` from `offset` on, as far as there are.
    pub(super) fn cut(&mut self, row: Pieces, mut offset: usize, mut len: usize) -> Pieces {
        let mut cut = self.row();
        for i in row.start..row.end {
            let Some(&piece) = self.gatherer.iovecs.get(i as usize) else { break };
            if offset >= piece.iov_len {
                offset -= piece.iov_len;
                continue;
            }
            let take = (piece.iov_len - offset).min(len);
            let iov_base = piece.iov_base.wrapping_byte_add(offset);
            self.gatherer.iovecs.push(libc::iovec { iov_base, iov_len: take });
            cut.end += 1;
            len -= take;
            offset = 0;
            if len == 0 {
                break;
            }
        }
        cut
    }

    /// One sendmmsg of the first messages of `wires`: how many were taken, at least one, or the error of the first. A
    /// single one in one piece, with nothing but its address, costs the kernel less by sendto.
    pub(super) fn send(&mut self, fd: BorrowedFd<'_>, wires: &[Wire]) -> io::Result<usize> {
        let g = &mut *self.gatherer;
        if let [Wire { name, control: Control { len: 0, .. }, pieces: Pieces { start, end } }] = wires
            && end - start == 1
            && let Some(piece) = g.iovecs.get(*start as usize)
        {
            let (fd, flags, to) = (fd.as_raw_fd(), libc::MSG_NOSIGNAL, (&raw const name.bytes).cast());
            // SAFETY: as below: the piece is readable for as long as `self`; the name is in `wires`, and as long as it says.
            retry(|| unsafe { libc::sendto(fd, piece.iov_base, piece.iov_len, flags, to, name.len) as c_int })?;
            return Ok(1);
        }
        let mut count = 0;
        for (h, w) in g.headers.iter_mut().zip(wires) {
            let pieces = g.iovecs.get_mut(w.pieces.start as usize..w.pieces.end as usize).unwrap_or_default();
            let h = &mut h.msg_hdr;
            h.msg_name = (&raw const w.name).cast_mut().cast();
            h.msg_namelen = w.name.len;
            h.msg_iov = pieces.as_mut_ptr();
            h.msg_iovlen = pieces.len() as _;
            let control = w.control.len;
            h.msg_control = if control == 0 { ptr::null_mut() } else { (&raw const w.control).cast_mut().cast() };
            h.msg_controllen = control as _;
            count += 1;
        }
        // SAFETY: the first `count` headers were just made. Names and control data are in `wires`, borrowed here; the
        // iovecs are ours, and each spans memory that was borrowed for `'p`, which has not ended since `self` carries
        // it, or our chunks (two neighbours that were joined are both readable all the same). sendmmsg only reads
        // through these pointers, and keeps none of them.
        let n = retry(|| unsafe {
            libc::sendmmsg(fd.as_raw_fd(), g.headers.as_mut_ptr(), count, libc::MSG_NOSIGNAL as _)
        })?;
        Ok(n as usize)
    }
}

/// One entry of a socket's error queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct QueuedError {
    /// To whom the datagram went that the error is about.
    pub(super) destination: Option<SocketAddr>,
    /// As in errno.h.
    pub(super) errno: i32,
    /// From the network; `false`: made by this host, and already returned by the send itself.
    pub(super) remote: bool,
}

/// Takes one entry off the error queue (IP_RECVERR); `None` when it is empty.
pub(super) fn take_error(fd: BorrowedFd<'_>) -> io::Result<Option<QueuedError>> {
    let mut name = Name::EMPTY;
    let mut control = [0_u64; 32];
    let mut h = blank_header();
    h.msg_name = (&raw mut name.bytes).cast();
    h.msg_namelen = NAME_BYTES as u32;
    h.msg_control = control.as_mut_ptr().cast();
    h.msg_controllen = size_of_val(&control) as _;
    // SAFETY: `h` points at `name` and `control`, which are alive and of the stated sizes, and has no iovec.
    let r =
        retry(|| unsafe { libc::recvmsg(fd.as_raw_fd(), &mut h, libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT) as c_int });
    match r {
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
        Err(e) => return Err(e),
    }
    // SAFETY: `control` is plain initialised memory of that many bytes.
    let bytes = unsafe { std::slice::from_raw_parts(control.as_ptr().cast::<u8>(), size_of_val(&control)) };
    let bytes = bytes.get(..h.msg_controllen).unwrap_or_default();
    let error = control_messages(bytes)
        .find(|m| matches!((m.level, m.kind), (libc::SOL_IP, libc::IP_RECVERR) | (libc::SOL_IPV6, libc::IPV6_RECVERR)));
    // struct sock_extended_err begins with ee_errno (u32) and ee_origin (u8).
    let errno = error.as_ref().and_then(|m| array(m.data, 0)).map_or(0, u32::from_ne_bytes);
    let origin = error.as_ref().and_then(|m| m.data.get(4)).copied().unwrap_or(libc::SO_EE_ORIGIN_NONE);
    Ok(Some(QueuedError {
        destination: name.address(h.msg_namelen as usize),
        errno: errno as i32,
        remote: matches!(origin, libc::SO_EE_ORIGIN_ICMP | libc::SO_EE_ORIGIN_ICMP6),
    }))
}

fn storage(ip: IpAddr) -> libc::sockaddr_storage {
    // SAFETY: sockaddr_storage is plain data for which all zeroes are valid.
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let name = Name::new(SocketAddr::new(ip, 0));
    // SAFETY: both are plain bytes, and the storage (128) is larger than a name (28).
    unsafe { ptr::copy_nonoverlapping(name.bytes.as_ptr(), (&raw mut storage).cast::<u8>(), NAME_BYTES) };
    storage
}

/// Joins or leaves a group on the interface of that index (0: the route's), from one sender or from any.
pub(super) fn membership(
    fd: BorrowedFd<'_>,
    join: bool,
    group: IpAddr,
    source: Option<IpAddr>,
    interface: u32,
) -> io::Result<()> {
    let level = if group.is_ipv4() { libc::IPPROTO_IP } else { libc::IPPROTO_IPV6 };
    match source {
        None => {
            let request = libc::group_req { gr_interface: interface, gr_group: storage(group) };
            set_option(fd, level, if join { libc::MCAST_JOIN_GROUP } else { libc::MCAST_LEAVE_GROUP }, &request)
        }
        Some(source) => {
            let request = libc::group_source_req {
                gsr_interface: interface,
                gsr_group: storage(group),
                gsr_source: storage(source),
            };
            let name = if join { libc::MCAST_JOIN_SOURCE_GROUP } else { libc::MCAST_LEAVE_SOURCE_GROUP };
            set_option(fd, level, name, &request)
        }
    }
}

fn set_option<T>(fd: BorrowedFd<'_>, level: c_int, name: c_int, value: &T) -> io::Result<()> {
    // SAFETY: the pointer is to `size_of::<T>()` readable bytes; setsockopt only reads them.
    let r = unsafe {
        libc::setsockopt(fd.as_raw_fd(), level, name, ptr::from_ref(value).cast(), size_of::<T>() as libc::socklen_t)
    };
    if r < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Lets this program choose among the sockets that share a port (SO_ATTACH_REUSEPORT_CBPF): its result is the number of
/// the socket, from 0 in the order they were bound. It sees the UDP payload.
pub(super) fn set_reuseport_program(fd: BorrowedFd<'_>, program: &[libc::sock_filter]) -> io::Result<()> {
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    // The kernel reads `filter`'s instructions in this call, and only reads them; `program` is borrowed for it.
    set_option(fd, libc::SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &filter)
}

/// An epoll instance.
pub(super) struct Epoll {
    fd: OwnedFd,
    /// The kernel lacks epoll_pwait2 (Linux 5.11), or a sandbox does not know it.
    coarse: Cell<bool>,
}

/// Room for events of one wait.
pub(super) struct Events(Vec<libc::epoll_event>);

impl Events {
    pub(super) fn with_capacity(n: usize) -> Self {
        Self(vec![libc::epoll_event { events: 0, u64: 0 }; n])
    }

    pub(super) fn capacity(&self) -> usize {
        self.0.len()
    }

    /// The token of event `i` of the last wait.
    pub(super) fn token(&self, i: usize) -> u64 {
        self.0[i].u64
    }
}

impl Epoll {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: no pointers.
        let fd = owned(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        Ok(Self { fd, coarse: Cell::new(false) })
    }

    /// Watches `fd` for input. What waits already is the first event, and whatever comes is another.
    pub(super) fn add(&self, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, libc::EPOLLIN | libc::EPOLLET)
    }

    /// Watches `fd` for input, once.
    pub(super) fn add_once(&self, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, libc::EPOLLIN | libc::EPOLLONESHOT)
    }

    /// Watches `fd` once more; if input waits already, that is the event.
    pub(super) fn rearm(&self, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, libc::EPOLLIN | libc::EPOLLONESHOT)
    }

    pub(super) fn remove(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, 0)
    }

    fn control(&self, op: c_int, fd: BorrowedFd<'_>, token: u64, events: c_int) -> io::Result<()> {
        let mut event = libc::epoll_event { events: events as u32, u64: token };
        // SAFETY: `event` is alive for the call, which only reads it.
        let r = unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), op, fd.as_raw_fd(), &mut event) };
        if r < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// The events there are, after at most `timeout` (`None`: for ever). With [`set_timer_slack`] it ends some
    /// microseconds after that, never before.
    pub(super) fn wait(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<usize> {
        if timeout == Some(Duration::ZERO) {
            return self.poll(events);
        }
        let timeout = timeout.map(|t| libc::timespec {
            tv_sec: t.as_secs().min(u64::from(u32::MAX)) as _,
            tv_nsec: t.subsec_nanos().into(),
        });
        let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
        if !self.coarse.get() {
            let (fd, list, room) = (self.fd.as_raw_fd(), events.0.as_mut_ptr(), events.0.len() as c_int);
            let mask: *const libc::sigset_t = ptr::null();
            // SAFETY: the kernel writes at most as many events as the vector has; `timeout` is null or alive for the
            // call, which only reads it; without a mask its size is not looked at.
            let r = unsafe { libc::syscall(libc::SYS_epoll_pwait2, fd, list, room, timeout, mask, 0_usize) };
            match calm(r as c_int) {
                Err(e) if matches!(e.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => self.coarse.set(true),
                r => return r,
            }
        }
        let mut own = libc::pollfd { fd: self.fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd, alive for the call; `timeout` as above; no mask.
        calm(unsafe { libc::ppoll(&mut own, 1, timeout, ptr::null()) })?;
        self.poll(events)
    }

    /// The events there are, without waiting.
    pub(super) fn poll(&self, events: &mut Events) -> io::Result<usize> {
        // SAFETY: the kernel writes at most as many events as the vector has.
        calm(unsafe { libc::epoll_wait(self.fd.as_raw_fd(), events.0.as_mut_ptr(), events.0.len() as c_int, 0) })
    }

    /// Behaves as on a kernel without epoll_pwait2.
    #[cfg(test)]
    pub(super) fn set_coarse(&self) {
        self.coarse.set(true);
    }
}

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// How many; none where a signal came first.
fn calm(count: c_int) -> io::Result<usize> {
    if count >= 0 {
        return Ok(count as usize);
    }
    let error = io::Error::last_os_error();
    if error.kind() == io::ErrorKind::Interrupted { Ok(0) } else { Err(error) }
}

/// Lets tokio tell when `fd` becomes readable.
pub(super) fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open and the same for all its life, and the AsyncFd has it from now on.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?)
}

fn owned(fd: c_int) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor; nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A clock of [`now`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClockId {
    Realtime,
    ThreadCpu,
}

/// A clock's nanoseconds.
pub(super) fn now(clock: ClockId) -> u64 {
    let id = match clock {
        ClockId::Realtime => libc::CLOCK_REALTIME,
        ClockId::ThreadCpu => libc::CLOCK_THREAD_CPUTIME_ID,
    };
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` is alive and of the right type. These clocks exist on every Linux, so the call can't fail.
    unsafe { libc::clock_gettime(id, &mut t) };
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// Lets this thread's timeouts end at most a nanosecond late (the default is 50 us).
pub(super) fn set_timer_slack() -> io::Result<()> {
    // SAFETY: no pointers.
    let r = unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_usize, 0_usize, 0_usize, 0_usize) };
    if r < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether whoever keeps the kernel's clock says that it is right (adjtimex(2)).
pub(super) fn clock_is_synchronised() -> bool {
    // SAFETY: all zeros make a valid timex, which asks for nothing but an answer.
    let mut t: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: `t` is alive and of the right type.
    let state = unsafe { libc::adjtimex(&mut t) };
    (0..libc::TIME_ERROR).contains(&state)
}

/// struct ethtool_ringparam, linux/ethtool.h.
#[repr(C)]
#[derive(Default)]
struct RingParameters {
    command: u32,
    receive_most: u32,
    mini_most: u32,
    jumbo_most: u32,
    send_most: u32,
    receive: u32,
    mini: u32,
    jumbo: u32,
    send: u32,
}

/// linux/ethtool.h.
const ETHTOOL_GRINGPARAM: u32 = 0x10;

/// Slots of an interface's receive ring: how many there are, and how many there may be.
///
/// # Errors
/// `EOPNOTSUPP`: it has none; `ENODEV`: no such interface; `EINVAL`: no name of one.
pub(super) fn receive_ring(interface: &str) -> io::Result<(u32, u32)> {
    let mut ring = RingParameters { command: ETHTOOL_GRINGPARAM, ..RingParameters::default() };
    // SAFETY: all zeros make a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays 0: the name ends there.
    if interface.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = (&raw mut ring).cast();
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
    // SAFETY: `request` and `ring`, to which it points, are alive and of the types of this command.
    let r = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &mut request) };
    if r < 0 { Err(io::Error::last_os_error()) } else { Ok((ring.receive, ring.receive_most)) }
}

/// The descriptors that the service manager has passed (sd_listen_fds_with_names(3)), with their names. A second call gets
/// none: each has one owner.
pub(super) fn take_passed() -> Vec<(String, OwnedFd)> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Vec::new();
    }
    let Ok(passed) = sd_notify::listen_fds_with_names() else { return Vec::new() };
    // SAFETY: they are this process's by LISTEN_PID, open since before it began, and nobody else asks for them.
    passed.map(|(fd, name)| (name, unsafe { OwnedFd::from_raw_fd(fd) })).collect()
}

/// The supplementary groups that the process at the other end of a Unix socket had when it connected
/// (SO_PEERGROUPS, unix(7); Linux 4.13).
///
/// # Errors
/// The error of getsockopt(2).
pub fn peer_groups(fd: BorrowedFd<'_>) -> io::Result<Vec<libc::gid_t>> {
    let mut groups: Vec<libc::gid_t> = vec![0; 64];
    loop {
        let mut len = (groups.len() * size_of::<libc::gid_t>()) as libc::socklen_t;
        // SAFETY: `fd` is open as long as it is borrowed; `groups` has room for `len` bytes, any of which make a
        // valid gid_t; the kernel writes no more than `len` bytes and sets `len`.
        let r = unsafe {
            libc::getsockopt(
                fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut len,
            )
        };
        let count = len as usize / size_of::<libc::gid_t>();
        if r == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        // ERANGE: too little room, and `len` says how much there must be.
        if error.raw_os_error() != Some(libc::ERANGE) || count <= groups.len() {
            return Err(error);
        }
        groups.resize(count, 0);
    }
}
