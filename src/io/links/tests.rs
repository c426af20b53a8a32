use super::*;
use crate::io::testing::{in_own_network, ip};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap()
}

fn cidr(text: &str) -> Interface {
    Interface::Cidr(text.parse().unwrap())
}

#[test]
fn the_loopback_interface_is_found_by_name_and_by_network() {
    let links = Links::read().unwrap();
    let lo = InterfaceRef { name: "lo".into(), index: 1 };
    assert_eq!(links.find(&Interface::Name("lo".into())), Some(lo.clone()));
    assert_eq!(links.find(&cidr("127.0.0.0/8")), Some(lo));
    assert_eq!(links.find(&cidr("240.0.0.0/8")), None);
    assert_eq!(links.find(&Interface::Name("nosuch0".into())), None);
    let lo = links.get("lo").unwrap();
    assert!(lo.up && lo.running);
    assert!(links.iter().any(|(name, _)| name == "lo"));
}

#[test]
fn of_several_interfaces_in_a_network_the_lowest_index_is_meant() {
    let link =
        |index, address: &str| Link { index, up: true, running: true, addresses: vec![address.parse().unwrap()] };
    let links = Links(BTreeMap::from([
        ("a".to_owned(), link(9, "10.2.0.1")),
        ("b".to_owned(), link(3, "10.2.0.2")),
        ("c".to_owned(), link(2, "10.3.0.1")),
        ("d".to_owned(), link(4, "2001:db8::1")),
    ]));
    assert_eq!(links.find(&cidr("10.2.0.0/16")).unwrap().name, "b");
    assert_eq!(links.find(&cidr("2001:db8::/32")).unwrap().name, "d");
}

#[test]
fn interfaces_that_come_change_and_go_are_heard_of() {
    in_own_network(|| {
        runtime().block_on(async {
            let mut watcher = Watcher::new().unwrap();
            ip("link add video0 type veth peer name far0");
            watcher.changed().await.unwrap();
            let down = Links::read().unwrap();
            assert!(!down.get("video0").unwrap().up);
            ip("addr add 10.77.0.1/24 dev video0 label video0:7");
            ip("addr add fd77::1/64 dev video0");
            ip("link set video0 up");
            watcher.changed().await.unwrap();
            let links = Links::read().unwrap();
            let index = links.get("video0").unwrap().index;
            assert!(links.get("video0").unwrap().up);
            assert_eq!(links.find(&cidr("10.77.0.0/24")), Some(InterfaceRef { name: "video0".into(), index }));
            assert_eq!(links.find(&cidr("fd77::/64")).unwrap().index, index);
            ip("link del video0");
            watcher.changed().await.unwrap();
            assert!(Links::read().unwrap().get("video0").is_none());
        });
    });
}
