use proptest::prelude::*;

use super::*;

fn network(s: &str) -> (String, bool) {
    let (net, exact) = parse_network(s).unwrap();
    (net.to_string(), exact)
}

#[test]
fn bit_rates_are_decimal() {
    let bps = |s: &str| s.parse().map(Bitrate::bps).ok();
    assert_eq!(bps("800k"), Some(800_000));
    assert_eq!(bps("20M"), Some(20_000_000));
    assert_eq!(bps("1.5G"), Some(1_500_000_000));
    assert_eq!(bps("12345"), Some(12_345));
    for bad in ["", "k", "1.M", ".5M", "1e6", "-1", "0", "0.0M", "20m", "20 M", "1.5.5M", "999999999999G", "+1", "٣"] {
        assert_eq!(bps(bad), None, "{bad}");
    }
}

#[test]
fn cpus_are_listed_as_taskset_lists_them() {
    let cpus = |s: &str| s.parse().ok().map(|list: CpuList| list.0);
    assert_eq!(cpus("0"), Some(vec![0]));
    assert_eq!(cpus("2-3,6"), Some(vec![2, 3, 6]));
    assert_eq!(cpus("6,2-3"), Some(vec![6, 2, 3]), "in the order written");
    assert_eq!(cpus("5-5,4095"), Some(vec![5, 4095]));
    assert_eq!(cpus("0-1023").map(|list| list.len()), Some(1024));
    for bad in [
        "", ",", "1,", "-1", "1-", "3-1", "1-2-3", "a", "0x1", "+1", " 1", "1, 2", "4096", "0-99999", "1,1", "0-3,2",
        "0-1024", "٣",
    ] {
        assert_eq!(cpus(bad), None, "{bad}");
    }
    assert_eq!("6,2-3".parse::<CpuList>().unwrap().to_string(), "6,2,3");
}

#[test]
fn dscp_names_are_those_of_the_registry() {
    let point = |s: &str| s.parse().map(Dscp::value).ok();
    assert_eq!(["cs0", "cs7", "af11", "af43", "AF41", "ef", "va", "le", "be", "default"].map(point), {
        [0, 56, 10, 38, 34, 46, 44, 1, 0, 0].map(Some)
    });
    assert_eq!(["cs8", "cs", "af10", "af14", "af51", "af", "", "46", "afé"].map(point), [None; 9]);
}

#[test]
fn addresses_are_read_as_written() {
    let bind = |s: &str| s.parse::<Bind>().map(|b| b.to_string()).ok();
    assert_eq!(bind(":5000").as_deref(), Some(":5000"));
    assert_eq!(bind("[::]:5000").as_deref(), Some("[::]:5000"));
    assert_eq!(bind("[::ffff:10.0.0.1]:5000").as_deref(), Some("10.0.0.1:5000"));
    let destination = |s: &str| s.parse::<Destination>().map(|d| d.to_string()).ok();
    assert_eq!(destination("Host.Example.NET:5000").as_deref(), Some("host.example.net:5000"));
    assert_eq!(destination("[2001:db8::7]:1").as_deref(), Some("[2001:db8::7]:1"));
    for bad in [
        "",
        ":",
        "a",
        "a:",
        "a:x",
        "a:+1",
        "a:0",
        "a:65536",
        "[]:1",
        "[::1]",
        "[10.0.0.1]:1",
        "-a:1",
        "a..b:1",
        "1.2.3:1",
        "a b:1",
    ] {
        assert_eq!(destination(bad), None, "{bad}");
    }
}

#[test]
fn a_network_is_a_prefix_or_one_address() {
    assert_eq!(network("203.0.113.10"), ("203.0.113.10/32".into(), true));
    assert_eq!(network("2001:db8::/48"), ("2001:db8::/48".into(), true));
    assert_eq!(network("10.1.2.3/8"), ("10.0.0.0/8".into(), false));
    assert_eq!(network("::ffff:10.1.0.0/112"), ("10.1.0.0/16".into(), true));
    assert_eq!(network("::ffff:10.1.2.3"), ("10.1.2.3/32".into(), true));
    assert!(parse_network("10.0.0.0/33").is_err());
}

proptest! {
    #[test]
    fn addresses_survive_being_written_and_read(ip in any::<IpAddr>(), port in 1u16..) {
        let bind = Bind { ip: Some(ip.to_canonical()), port };
        prop_assert_eq!(bind.to_string().parse(), Ok(bind));
        let destination = Destination { host: Host::Address(ip.to_canonical()), port };
        prop_assert_eq!(destination.to_string().parse(), Ok(destination));
    }

    #[test]
    fn no_text_makes_a_value_panic(s in "\\PC{0,20}|[0-9a-f:.\\[\\]/%kMG]{0,24}") {
        let _ = (s.parse::<Bitrate>(), s.parse::<Dscp>(), s.parse::<Bind>(), s.parse::<Destination>());
        let _ = (s.parse::<Interface>(), s.parse::<FlowName>(), parse_network(&s), parse_duration(&s));
    }
}
