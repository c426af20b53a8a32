use std::net::UdpSocket;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;
use std::time::Duration;

use tokio::task::spawn_local;

use super::*;
use crate::io::testing::LOCAL;

/// Runs `test` as a shard would.
fn on_a_shard<F: Future>(test: impl FnOnce(Reactor) -> F) -> F::Output {
    let reactor = Reactor::new().unwrap();
    reactor.run(test(reactor.clone()), |_| {}).unwrap()
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
    reactor.yield_turn().await;
}

/// Counts how often it was woken.
#[derive(Default)]
struct Counter(AtomicUsize);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Whether it is ready now.
async fn is_ready(registration: &Registration) -> bool {
    poll_fn(|cx| Poll::Ready(registration.poll_ready(cx).is_ready())).await
}

const BUDGET: Duration = Duration::from_millis(2);

#[test]
fn each_input_makes_ready_once_and_what_waits_already_counts() {
    on_a_shard(|reactor| async move {
        let socket = socket();
        send_to(&socket);
        let registration = reactor.register(&socket).unwrap();
        for _ in 0..10 {
            registration.ready().await;
            assert!(!is_ready(&registration).await);
            settle(&reactor).await;
            assert!(!is_ready(&registration).await);
            send_to(&socket);
        }
        // Nobody waited for it, and it is kept.
        settle(&reactor).await;
        assert!(is_ready(&registration).await);
    });
}

#[test]
fn with_a_budget_input_makes_ready_only_when_it_has_waited_for_that_long() {
    on_a_shard(|reactor| async move {
        let socket = socket();
        let registration = reactor.register(&socket).unwrap();
        registration.gather(BUDGET).unwrap();
        for _ in 0..5 {
            let sent = Instant::now();
            send_to(&socket);
            registration.ready().await;
            assert!(sent.elapsed() >= BUDGET);
            registration.served(1);
        }
    });
}

#[test]
fn the_sockets_of_a_budget_share_its_wakes_and_nothing_in_between_wakes_the_thread() {
    on_a_shard(|reactor| async move {
        let sockets: Vec<_> = (0..50).map(|_| socket()).collect();
        let registrations: Vec<_> = sockets.iter().map(|s| reactor.register(s).unwrap()).collect();
        registrations.iter().for_each(|r| r.gather(BUDGET).unwrap());
        assert_eq!(reactor.quanta(), 1);
        reactor.yield_turn().await;
        let last = sockets[49].try_clone().unwrap();
        last.set_nonblocking(true).unwrap();
        let sender = std::thread::spawn(move || {
            for _ in 0..20 {
                sockets.iter().for_each(send_to);
                std::thread::sleep(BUDGET / 10);
            }
        });
        let turns = reactor.0.turns.get();
        let start = Instant::now();
        let mut received = 0;
        while received < 20 {
            registrations[49].ready().await;
            for registration in &registrations[..49] {
                is_ready(registration).await;
            }
            registrations.iter().for_each(|r| r.served(1));
            received += std::iter::from_fn(|| last.recv(&mut [0; 8]).ok()).count();
        }
        // The first input wakes, and then each budget's end; the sender's 1000 datagrams do not.
        let wakes = reactor.0.turns.get() - turns;
        let budgets = start.elapsed().as_nanos() / BUDGET.as_nanos();
        assert!(u128::from(wakes) <= 2 * (budgets + 2), "{wakes} wakes in {budgets} budgets");
        sender.join().unwrap();
    });
}

#[test]
fn budgets_do_not_wait_for_each_other() {
    on_a_shard(|reactor| async move {
        let sockets = [socket(), socket(), socket()];
        let registrations = sockets.each_ref().map(|s| reactor.register(s).unwrap());
        registrations[1].gather(BUDGET).unwrap();
        registrations[2].gather(Duration::from_secs(1000)).unwrap();
        assert_eq!(reactor.quanta(), 2);
        sockets.iter().for_each(send_to);
        registrations[0].ready().await;
        registrations[1].ready().await;
        settle(&reactor).await;
        assert!(!is_ready(&registrations[2]).await);
        // With another budget it starts anew.
        registrations[2].gather(BUDGET).unwrap();
        registrations[2].ready().await;
        assert_eq!(reactor.quanta(), 1);
    });
}

#[test]
fn a_change_of_budget_loses_no_input_and_the_last_socket_closes_the_budget() {
    on_a_shard(|reactor| async move {
        let socket = socket();
        let registration = reactor.register(&socket).unwrap();
        for n in 0..20_u64 {
            send_to(&socket);
            registration.gather(Duration::from_micros(n % 4 * 300)).unwrap();
            registration.ready().await;
            registration.served(2);
            assert_eq!(reactor.quanta(), usize::from(n % 4 > 0));
        }
        registration.gather(BUDGET).unwrap();
        drop(registration);
        assert_eq!(reactor.quanta(), 0);
    });
}

#[test]
fn a_steady_stream_is_served_once_a_budget_and_a_pause_ends_that() {
    on_a_shard(|reactor| async move {
        let socket = socket();
        let registration = reactor.register(&socket).unwrap();
        registration.gather(BUDGET).unwrap();
        send_to(&socket);
        registration.ready().await;
        registration.served(2);
        // Nobody comes, so the quantum's next look finds nothing, and the thread sleeps from then on.
        settle(&reactor).await;
        assert_eq!(reactor.0.quanta.borrow().next(), None);
        send_to(&socket);
        registration.ready().await;
    });
}

#[test]
fn a_kernel_without_precise_waits_serves_as_well() {
    on_a_shard(|reactor| async move {
        reactor.0.epoll.set_coarse();
        let socket = socket();
        let registration = reactor.register(&socket).unwrap();
        registration.gather(BUDGET).unwrap();
        let start = Instant::now();
        send_to(&socket);
        registration.ready().await;
        reactor.sleep_until(Instant::now() + BUDGET).await;
        assert!(start.elapsed() >= 2 * BUDGET);
    });
}

#[test]
fn a_task_is_woken_from_another_thread() {
    on_a_shard(|reactor| async move {
        let (tell, told) = tokio::sync::oneshot::channel();
        let (asked, ask) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let _: () = ask.recv().unwrap();
            tell.send(7).unwrap();
        });
        settle(&reactor).await;
        asked.send(()).unwrap();
        assert_eq!(told.await.unwrap(), 7);
        thread.join().unwrap();
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
        assert!(!is_ready(&registration).await);
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
        let turns = reactor.clone();
        let flood = spawn_local(async move {
            while !stop.get() {
                send_to(&busy);
                registration.ready().await;
                // Or its buffer would be full at last, and nothing more come.
                busy.recv(&mut [0; 8]).unwrap();
                turns.yield_turn().await;
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
