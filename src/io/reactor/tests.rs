use std::future::poll_fn;
use std::net::UdpSocket;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;
use std::time::Duration;

use tokio::task::{LocalSet, spawn_local, yield_now};

use super::*;
use crate::io::testing::LOCAL;

/// Runs `test` as a shard would.
fn on_a_shard<F: Future>(test: impl FnOnce(Reactor) -> F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let reactor = Reactor::new().unwrap();
        let driver = spawn_local(reactor.clone().drive());
        let output = test(reactor).await;
        driver.abort();
        output
    })
}

fn socket() -> UdpSocket {
    UdpSocket::bind((LOCAL, 0)).unwrap()
}

fn send_to(socket: &UdpSocket) {
    socket.send_to(b"x", socket.local_addr().unwrap()).unwrap();
}

/// Lets the reactor and the kernel do what they have to: until a timer set now has run out.
async fn settle(reactor: &Reactor) {
    reactor.sleep_until(Instant::now() + Duration::from_millis(5)).await;
    yield_now().await;
}

/// Counts how often it was woken.
#[derive(Default)]
struct Counter(AtomicUsize);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn input_makes_ready_once_and_only_a_rearm_makes_ready_again() {
    on_a_shard(|reactor| async move {
        let socket = socket();
        let registration = reactor.register(&socket).unwrap();
        let counter = Arc::new(Counter::default());
        let waker = Waker::from(counter.clone());
        let mut cx = Context::from_waker(&waker);
        assert!(registration.poll_ready(&mut cx).is_pending());
        send_to(&socket);
        settle(&reactor).await;
        assert_eq!(counter.0.load(Ordering::Relaxed), 1);
        assert!(registration.poll_ready(&mut cx).is_ready());

        // Not armed: whatever comes wakes nobody.
        assert!(registration.poll_ready(&mut cx).is_pending());
        (0..10).for_each(|_| send_to(&socket));
        settle(&reactor).await;
        assert_eq!(counter.0.load(Ordering::Relaxed), 1);
        assert!(registration.poll_ready(&mut cx).is_pending());

        // What waits already counts.
        registration.rearm().unwrap();
        registration.rearm().unwrap();
        settle(&reactor).await;
        assert_eq!(counter.0.load(Ordering::Relaxed), 2);
        assert!(registration.poll_ready(&mut cx).is_ready());
    });
}

#[test]
fn readiness_that_nobody_waited_for_is_kept() {
    on_a_shard(|reactor| async move {
        let socket = socket();
        let registration = reactor.register(&socket).unwrap();
        send_to(&socket);
        settle(&reactor).await;
        registration.rearm().unwrap();
        registration.ready().await;
        assert!(poll_fn(|cx| Poll::Ready(registration.poll_ready(cx).is_pending())).await);
    });
}

#[test]
fn a_socket_armed_for_each_input_needs_no_rearm_until_it_is_armed_once_again() {
    on_a_shard(|reactor| async move {
        let socket = socket();
        socket.set_nonblocking(true).unwrap();
        let read = || while socket.recv(&mut [0; 8]).is_ok() {};
        let registration = reactor.register(&socket).unwrap();
        // What waits already counts here too.
        send_to(&socket);
        registration.rearm_each().unwrap();
        for _ in 0..10 {
            registration.ready().await;
            registration.rearm_each().unwrap();
            read();
            send_to(&socket);
        }
        // The change back tells what came meanwhile, and then nothing.
        registration.rearm().unwrap();
        registration.ready().await;
        read();
        send_to(&socket);
        settle(&reactor).await;
        assert!(poll_fn(|cx| Poll::Ready(registration.poll_ready(cx).is_pending())).await);
        registration.rearm().unwrap();
        registration.ready().await;
        // Nothing came since: the change forth is no input.
        read();
        registration.rearm_each().unwrap();
        settle(&reactor).await;
        assert!(poll_fn(|cx| Poll::Ready(registration.poll_ready(cx).is_pending())).await);
    });
}

#[test]
fn a_dropped_registration_is_gone_and_its_place_serves_the_next() {
    on_a_shard(|reactor| async move {
        let (first, second) = (socket(), socket());
        let registration = reactor.register(&first).unwrap();
        let counter = Arc::new(Counter::default());
        let waker = Waker::from(counter.clone());
        assert!(registration.poll_ready(&mut Context::from_waker(&waker)).is_pending());
        send_to(&first);
        drop(registration);
        // An event that was on its way when the place changed hands.
        reactor.0.notify(1 << 32);
        let registration = reactor.register(&second).unwrap();
        reactor.0.notify(1 << 32);
        reactor.0.notify(99);
        settle(&reactor).await;
        assert_eq!(counter.0.load(Ordering::Relaxed), 0);
        assert_eq!(Arc::strong_count(&counter), 2, "the waker was dropped");
        assert!(poll_fn(|cx| Poll::Ready(registration.poll_ready(cx).is_pending())).await);
        send_to(&second);
        registration.ready().await;
        assert_eq!(reactor.0.sockets.borrow().slots.len(), 1);
    });
}

#[test]
fn a_socket_may_be_closed_before_its_registration() {
    on_a_shard(|reactor| async move {
        let first = socket();
        let registration = reactor.register(&first).unwrap();
        drop(first);
        // Takes the first one's descriptor.
        let second = socket();
        let other = reactor.register(&second).unwrap();
        drop(registration);
        send_to(&second);
        other.ready().await;
    });
}

#[test]
fn more_sockets_than_one_wait_takes_are_all_served() {
    on_a_shard(|reactor| async move {
        let sockets: Vec<_> = (0..EVENTS + 20).map(|_| socket()).collect();
        let registrations: Vec<_> = sockets.iter().map(|s| reactor.register(s).unwrap()).collect();
        for _ in 0..3 {
            sockets.iter().for_each(send_to);
            for registration in &registrations {
                registration.ready().await;
                registration.rearm().unwrap();
            }
        }
    });
}

#[test]
fn a_busy_task_does_not_keep_others_from_their_input_and_timers() {
    on_a_shard(|reactor| async move {
        let (busy, idle) = (socket(), socket());
        let done = Rc::new(Cell::new(false));
        let stop = done.clone();
        let registration = reactor.register(&busy).unwrap();
        let flood = spawn_local(async move {
            send_to(&busy);
            while !stop.get() {
                registration.ready().await;
                registration.rearm().unwrap();
                yield_now().await;
            }
        });
        let registration = reactor.register(&idle).unwrap();
        send_to(&idle);
        registration.ready().await;
        reactor.sleep_until(Instant::now() + Duration::from_millis(2)).await;
        done.set(true);
        flood.await.unwrap();
    });
}

#[test]
fn sleeps_end_in_the_order_of_their_deadlines_and_never_early() {
    on_a_shard(|reactor| async move {
        let start = Instant::now();
        let order = Rc::new(RefCell::new(Vec::new()));
        let tasks: Vec<_> = [7, 2, 9, 2, 5, 30, 1]
            .into_iter()
            .map(|ms| {
                let (order, sleep) = (order.clone(), reactor.sleep_until(start + Duration::from_millis(ms)));
                spawn_local(async move {
                    let deadline = sleep.deadline();
                    sleep.await;
                    assert!(Instant::now() >= deadline);
                    order.borrow_mut().push(ms);
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*order.borrow(), [1, 2, 2, 5, 7, 9, 30]);
    });
}

#[test]
fn a_sleep_can_be_put_off_brought_forward_used_again_and_dropped() {
    on_a_shard(|reactor| async move {
        let start = Instant::now();
        let mut sleep = reactor.sleep_until(start + Duration::from_secs(1000));
        assert!(poll_fn(|cx| Poll::Ready(Pin::new(&mut sleep).poll(cx).is_pending())).await);
        sleep.reset(start + Duration::from_millis(1));
        Pin::new(&mut sleep).await;
        for ms in 2..20 {
            sleep.reset(start + Duration::from_millis(ms));
            Pin::new(&mut sleep).await;
            assert!(start.elapsed() >= Duration::from_millis(ms));
        }
        let mut dropped = reactor.sleep_until(Instant::now() + Duration::from_millis(1));
        assert!(poll_fn(|cx| Poll::Ready(Pin::new(&mut dropped).poll(cx).is_pending())).await);
        sleep.reset(Instant::now() + Duration::from_millis(3));
        drop(dropped);
        Pin::new(&mut sleep).await;
        drop(sleep);
        assert_eq!(reactor.0.timers.borrow().next(), None);
    });
}

#[test]
fn a_deadline_in_the_past_is_ready_at_once() {
    on_a_shard(|reactor| async move {
        let start = Instant::now();
        let mut past = reactor.sleep_until(start);
        assert!(poll_fn(|cx| Poll::Ready(Pin::new(&mut past).poll(cx).is_ready())).await);
        assert!(past.timer.is_none());
    });
}
