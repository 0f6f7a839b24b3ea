//! Tests of the launch plan as a whole.

use std::path::Path;

use oci_spec::runtime::LinuxNamespaceType;

use super::*;
use crate::Paths;
use crate::request::defaults;
use crate::table::Intent;

fn container(change: impl FnOnce(&mut Config, &mut HostConfig)) -> Container {
    let id = "0123456789ab".repeat(5) + "0123";
    let mut config = Config { cmd: Some(vec!["true".into()]), ..Config::default() };
    let mut host = HostConfig::default();
    change(&mut config, &mut host);
    defaults::fill_host(&mut host);
    defaults::fill_config(&mut config, &host, &id);
    let uid_base = (userns::owner(&host).unwrap() == userns::Owner::Own).then_some(200_000);
    Container {
        id,
        name: "web".into(),
        image: "busybox".into(),
        image_id: "sha256:b".into(),
        created_at: 1,
        state: Intent::Created,
        exit_code: 0,
        oom: false,
        error: String::new(),
        started_at: 0,
        finished_at: 0,
        restart_count: 0,
        uid_base,
        config,
        host,
        mounts: Vec::new(),
    }
}

fn spec_of(container: &Container) -> Spec {
    let engine = Engine::new(Paths { root: "/r".into(), state: "/s".into() });
    let options = Options::parse(&container.host).unwrap();
    let capabilities = caps::effective(&container.host).unwrap();
    let space = engine.space(container).unwrap();
    engine.spec(container, &options, &capabilities, &space).unwrap()
}

fn namespaces_of(spec: &Spec) -> Vec<LinuxNamespaceType> {
    spec.linux().as_ref().unwrap().namespaces().iter().flatten().map(|namespace| namespace.typ()).collect()
}

#[test]
fn eight_namespaces_by_default_and_ids_mapped() {
    let spec = spec_of(&container(|_, _| {}));
    let mut kinds: Vec<String> = namespaces_of(&spec).iter().map(ToString::to_string).collect();
    kinds.sort();
    assert_eq!(kinds, ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"]);
    let linux = spec.linux().as_ref().unwrap();
    let users = linux.uid_mappings().as_ref().unwrap();
    assert_eq!((users[0].container_id(), users[0].host_id(), users[0].size()), (0, 200_000, 65536));
    assert_eq!(linux.cgroups_path().as_deref().unwrap().parent(), Some(Path::new("/kiste")));
    let process = spec.process().as_ref().unwrap();
    assert_eq!(process.no_new_privileges(), Some(true));
    assert_eq!(process.capabilities().as_ref().unwrap().bounding().as_ref().unwrap().len(), 11);
    assert_eq!(process.env().as_ref().unwrap()[0], format!("PATH={SEARCH_PATH}"));
    assert!(process.env().as_ref().unwrap().contains(&"HOSTNAME=0123456789ab".to_owned()));
}

#[test]
fn privileged_shares_the_hosts_users_and_hides_nothing() {
    let spec = spec_of(&container(|_, host| host.privileged = true));
    assert!(!namespaces_of(&spec).contains(&LinuxNamespaceType::User));
    let linux = spec.linux().as_ref().unwrap();
    assert!(linux.masked_paths().as_ref().unwrap().is_empty() && linux.readonly_paths().as_ref().unwrap().is_empty());
    let process = spec.process().as_ref().unwrap();
    assert_eq!(process.no_new_privileges(), Some(false));
    assert!(process.capabilities().as_ref().unwrap().bounding().as_ref().unwrap().len() > 35);
    let rules = linux.resources().as_ref().unwrap().devices().as_ref().unwrap();
    assert!(rules.len() == 1 && rules[0].allow());
}

#[test]
fn host_modes_leave_namespaces_out() {
    let spec = spec_of(&container(|_, host| {
        host.network_mode = "host".into();
        host.pid_mode = "host".into();
        host.uts_mode = "host".into();
    }));
    let kinds = namespaces_of(&spec);
    for absent in
        [LinuxNamespaceType::Network, LinuxNamespaceType::Pid, LinuxNamespaceType::Uts, LinuxNamespaceType::User]
    {
        assert!(!kinds.contains(&absent), "{absent}");
    }
    assert!(spec.hostname().is_none());
    assert!(spec.linux().as_ref().unwrap().sysctl().is_none());
}

#[test]
fn files_and_binds_are_mapped_for_a_mapped_container_only() {
    let has = |container: &Container, option: &str| {
        let spec = spec_of(container);
        let mounts = spec.mounts().as_ref().unwrap();
        let hosts = mounts.iter().find(|mount| mount.destination() == Path::new("/etc/hosts")).unwrap();
        hosts.options().as_ref().unwrap().contains(&option.to_owned())
    };
    assert!(has(&container(|_, _| {}), "idmap"));
    assert!(!has(&container(|_, host| host.userns_mode = "host".into()), "idmap"));
    assert!(has(&container(|_, host| host.readonly_rootfs = true), "ro"));
}

#[test]
fn cgroup_parents_stay_inside() {
    assert_eq!(cgroup_path("", "id"), "/kiste/id");
    assert_eq!(cgroup_path("/a/../../b/", "id"), "/b/id");
    assert_eq!(cgroup_path("machine.slice", "id"), "/machine.slice/id");
}
