use crate::config::diff::diff_flow;
use crate::config::diff::tests::{keys, plan_of, told};

/// What it takes from one flow to the other, each by the lines of its source and of its output.
fn between((source, output): (&str, &str), (new_source, new_output): (&str, &str)) -> String {
    let keys = keys(&[("a", "passphrase a"), ("b", "passphrase b")]);
    let flow = |source: &str, output: &str| {
        let text =
            format!("[sources.in]\nprotocol = \"rist\"\n{source}\n\n[outputs.out]\nprotocol = \"rist\"\n{output}\n");
        plan_of(&text, &keys)
    };
    told(diff_flow(Some(&flow(source, output)), Some(&flow(new_source, new_output))))
}

const SOURCE: &str = "bind = \"239.1.1.1:5000\"\n";
const OUTPUT: &str = "destination = \"198.51.100.7:6000\"\n";

fn of_source(old: &str, new: &str) -> String {
    between((&format!("{SOURCE}{old}"), OUTPUT), (&format!("{SOURCE}{new}"), OUTPUT))
}

fn of_output(old: &str, new: &str) -> String {
    between((SOURCE, &format!("{OUTPUT}{old}")), (SOURCE, &format!("{OUTPUT}{new}")))
}

#[test]
fn latency_and_who_may_send_change_while_it_runs() {
    assert_eq!(of_source("", "latency = \"2s\""), "change: source in in-place [latency]");
    assert_eq!(of_source("", "latency = \"1s\""), "nothing", "the default");
    assert_eq!(of_source("", "allow = [\"203.0.113.7\"]"), "change: source in in-place [allow]");
    assert_eq!(of_source("max-bitrate = \"2M\"", ""), "change: source in in-place [max-bitrate]");
    assert_eq!(of_output("", "latency = \"2s\""), "change: output out in-place [latency]");
    assert_eq!(of_output("", "ttl = 3\ndscp = \"ef\""), "change: output out in-place [ttl dscp]");
}

#[test]
fn passphrases_come_go_and_change_places_while_it_runs() {
    let both = "profile = \"main\"\npassphrase-files = [\"b\", \"a\"]";
    let one = "profile = \"main\"\npassphrase-file = \"a\"";
    let other = "profile = \"main\"\npassphrase-file = \"b\"";
    let long = "profile = \"main\"\npassphrase-file = \"a\"\nkey-length = 32";
    assert_eq!(of_source(one, both), "change: source in in-place [passphrase-files]");
    assert_eq!(of_source(both, other), "change: source in in-place [passphrase-files]");
    assert_eq!(of_source(one, other), "change: source in in-place [passphrase-file]");
    assert_eq!(of_source(one, long), "change: source in in-place [key-length]");
    assert_eq!(of_output(one, other), "change: output out in-place [passphrase-file]");
    assert_eq!(of_output(long, one), "change: output out in-place [key-length]");
}

#[test]
fn a_key_file_with_something_else_in_it_is_a_changed_passphrase() {
    let [old, same, new] = ["passphrase a", "passphrase a\n", "another one"].map(|text| keys(&[("a", text)]));
    let text = format!(
        "[sources.in]\nprotocol = \"rist\"\n{SOURCE}profile = \"main\"\npassphrase-file = \"a\"\n\
         [sources.clear]\nprotocol = \"rist\"\nbind = \"239.1.1.2:5000\"\n[failover]\nmode = \"merge\"\n[outputs]\n"
    );
    let told = |new| told(diff_flow(Some(&plan_of(&text, &old)), Some(&plan_of(&text, new))));
    assert_eq!(told(&same), "nothing");
    assert_eq!(told(&new), "change: source in in-place [passphrase-file]");
}

#[test]
fn the_profile_and_whether_it_is_encrypted_open_it_again() {
    let main = "profile = \"main\"";
    let sealed = "profile = \"main\"\npassphrase-file = \"a\"";
    assert_eq!(of_source("", main), "change: source in reopen [profile]");
    assert_eq!(of_source("", "profile = \"simple\""), "nothing", "the default");
    assert_eq!(of_source("", sealed), "change: source in reopen [profile passphrase-file]");
    assert_eq!(of_source(main, sealed), "change: source in reopen [passphrase-file]");
    assert_eq!(of_output(sealed, main), "change: output out reopen [passphrase-file]");
    assert_eq!(of_output(main, ""), "change: output out reopen [profile]");
}

#[test]
fn places_and_ports_open_it_again() {
    let moved = "bind = \"239.1.1.1:5002\"\n";
    assert_eq!(between((SOURCE, OUTPUT), (moved, OUTPUT)), "change: source in reopen [bind]");
    let senders = "multicast-sources = [\"203.0.113.7\"]\nlatency = \"2s\"";
    assert_eq!(of_source("", senders), "change: source in reopen [multicast-sources latency]");
    let moved = "destination = \"198.51.100.7:6002\"\n";
    assert_eq!(between((SOURCE, OUTPUT), (SOURCE, moved)), "change: output out reopen [destination]");
    assert_eq!(of_output("", "source-port = 7000"), "change: output out reopen [source-port]");
    let legs = "legs = [{ destination = \"198.51.100.7:6000\" }, { destination = \"198.51.100.8:6000\" }]\n";
    assert_eq!(between((SOURCE, OUTPUT), (SOURCE, legs)), "change: output out reopen [legs]");
    let rtp = "[sources.in]\nprotocol = \"rtp\"\nbind = \"239.1.1.1:5000\"\n\n[outputs]\n";
    let none = keys(&[]);
    let (rtp, rist) = (plan_of(rtp, &none), plan_of(&rtp.replace("rtp", "rist"), &none));
    assert_eq!(told(diff_flow(Some(&rtp), Some(&rist))), "change: source in reopen [protocol]");
}
