//! The Ansible role and the Puppet module, run for real on a machine that has neither the package nor a flow. Needs root.

mod support;

use std::path::Path;

use support::machine::{Image, Machine, text};
use support::package::{PACKAGE, boot};

// debootstrap does not find what is only provided.
const ANSIBLE: Image = Image { release: "bookworm", more: ",ansible-core,python3-apt,python3-cffi-backend" };
const PUPPET: Image = Image { release: "bookworm", more: ",puppet-agent" };

const KEY: &str = "correct horse battery";

/// What a tool is told to make of the machine, in JSON: YAML has it, too, and so has the other by its data.
fn wanted(news: &str) -> String {
    format!(
        r#"{{ "news": {{ {news} }},
              "venue": {{ "description": "Größe \"1\"",
                          "sources": {{ "a": {{ "protocol": "srt-listener", "bind": "127.0.0.1:5001",
                                                "passphrase-file": "venue" }} }} }} }}"#
    )
}

const NEWS: &str = r#""sources": { "main": { "protocol": "udp", "bind": "127.0.0.1:5000" } },
                      "outputs": { "a": { "protocol": "udp", "destination": "127.0.0.1:6000" } }"#;
const MORE: &str = r#""sources": { "main": { "protocol": "udp", "bind": "127.0.0.1:5000" } },
                      "outputs": { "a": { "protocol": "udp", "destination": "127.0.0.1:6000" },
                                   "b": { "protocol": "udp", "destination": "127.0.0.1:6001" } }"#;
const BROKEN: &str = r#""sources": { "main": { "protocol": "udp", "bindd": "127.0.0.1:5000" } }"#;

/// How a run has ended.
#[derive(Debug, PartialEq, Eq)]
enum Run {
    Changed,
    Unchanged,
    Failed,
}

/// What is the same with both: `apply` brings about these flows, and gives what was said.
fn assert_keeps(machine: &Machine, apply: impl Fn(&str) -> (Run, String)) {
    let applied = |news: &str, expected: Run| {
        let (run, said) = apply(&wanted(news));
        assert_eq!(run, expected, "{said}");
        assert!(!said.contains(KEY), "a key is shown:\n{said}");
        said
    };
    applied(NEWS, Run::Changed);
    assert_eq!(machine.property("ActiveState"), "active");
    for flow in ["news", "venue"] {
        machine.wait_for_state(flow, "active");
    }
    assert_eq!(machine.flow("venue")["description"], "Größe \"1\"");
    assert_eq!(
        machine.ok(&["stat", "--format", "%U:%G %a", "/etc/mediaconnect/secrets/venue"]),
        "root:mediaconnect 640\n"
    );
    assert!(machine.read("/etc/mediaconnect/mediaconnect.toml").contains("max-flows = 7"));
    let started = machine.property("ExecMainStartTimestampMonotonic");
    applied(NEWS, Run::Unchanged);

    let file = machine.read("/etc/mediaconnect/flows.d/news.toml");
    let said = applied(BROKEN, Run::Failed);
    assert!(said.contains("did you mean"), "it says why: {said}");
    assert_eq!(machine.read("/etc/mediaconnect/flows.d/news.toml"), file, "nothing is applied");
    assert_eq!(machine.flow("news")["stale-config"], false);

    machine.write_flow("stray", "[sources.main]\nprotocol = 'udp'\nbind = '127.0.0.1:5005'\n");
    machine.wait_for_state("stray", "active");
    applied(MORE, Run::Changed);
    // Before the run ended, a reload has waited for this.
    assert!(machine.flow("news")["outputs"]["b"].is_object(), "{:#}", machine.flow("news"));
    assert!(machine.flow("stray").is_null(), "what is not listed is gone");
    machine.ok(&["test", "-e", "/etc/mediaconnect/flows.d/srt-from-an-encoder.toml.example"]);
    assert_eq!(machine.property("ExecMainStartTimestampMonotonic"), started, "nothing was restarted");
    applied(MORE, Run::Unchanged);
}

#[test]
fn the_ansible_role_keeps_a_machine_as_its_data_say() {
    let role = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/ansible");
    let machine = boot(ANSIBLE, &[(&role, "/root/roles/mediaconnect")]);
    assert_keeps(&machine, |flows| {
        let play = format!(
            r#"[{{ "hosts": "all", "gather_facts": false, "roles": ["mediaconnect"], "vars": {{
                "mediaconnect_package": "{PACKAGE}", "mediaconnect_flows": {flows}, "mediaconnect_flows_exclusive": true,
                "mediaconnect_settings": {{ "limits": {{ "max-flows": 7 }} }},
                "mediaconnect_secrets": {{ "venue": "{KEY}" }} }} }}]"#
        );
        machine.write("/root/play.yml", &play);
        let environment = ["env", "LANG=C.UTF-8", "HOME=/root", "ANSIBLE_ROLES_PATH=/root/roles"];
        let command =
            ["ansible-playbook", "--inventory", "localhost,", "--connection", "local", "--diff", "/root/play.yml"];
        let output = machine.run(&[&environment[..], &command[..]].concat());
        let said = text(&output);
        let run = match output.status.success() {
            false => Run::Failed,
            true if said.contains(" changed=0 ") => Run::Unchanged,
            true => Run::Changed,
        };
        (run, said)
    });
}

#[test]
fn the_puppet_module_keeps_a_machine_as_its_data_say() {
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/puppet");
    let machine = boot(PUPPET, &[(&module, "/root/modules/mediaconnect")]);
    assert_keeps(&machine, |flows| {
        // As from Hiera.
        let data = format!(
            r#"{{ "mediaconnect::package_source": "{PACKAGE}", "mediaconnect::flows": {flows},
                  "mediaconnect::flows_exclusive": true,
                  "mediaconnect::settings": {{ "limits": {{ "max-flows": 7 }} }},
                  "lookup_options": {{ "mediaconnect::secrets": {{ "convert_to": "Sensitive" }} }},
                  "mediaconnect::secrets": {{ "venue": "{KEY}" }} }}"#
        );
        machine.write("/root/common.yaml", &data);
        let hiera = "version: 5\nhierarchy: [{ name: all, path: common.yaml }]\ndefaults: { datadir: ., data_hash: yaml_data }\n";
        machine.write("/root/hiera.yaml", hiera);
        let command = ["env", "LANG=C.UTF-8", "HOME=/root", "puppet", "apply", "--detailed-exitcodes", "--show_diff"];
        let what =
            ["--hiera_config=/root/hiera.yaml", "--modulepath=/root/modules", "--execute", "include mediaconnect"];
        let output = machine.run(&[&command[..], &what[..]].concat());
        let run = match output.status.code() {
            Some(0) => Run::Unchanged,
            Some(2) => Run::Changed,
            _ => Run::Failed,
        };
        (run, text(&output))
    });
}
