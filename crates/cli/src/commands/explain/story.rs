//! The story of one container, topic by topic: each says in a sentence what it is about, then what the kernel tells.

use engine::Explanation;

use super::page::Page;
use crate::format::human;

/// Changed paths that the page lists; `--format json` has more.
const CHANGES: usize = 12;

/// The whole page.
pub(super) fn tell(story: &Explanation) -> String {
    let mut page = Page::default();
    page.title(&format!("{}  ({})", story.name, human::short_id(&story.id)), &story.status);
    page.say(&format!("{}, from image {}", command(&story.command), story.image));
    process(&mut page, story);
    kernel(&mut page, story);
    namespaces(&mut page, story);
    users(&mut page, story);
    limits(&mut page, story);
    files(&mut page, story);
    mounts(&mut page, story);
    privileges(&mut page, story);
    monitor(&mut page, story);
    page.finish()
}

fn command(words: &[String]) -> String {
    let quoted =
        |word: &String| if word.contains([' ', '\'', '"', ';', '$']) { format!("{word:?}") } else { word.clone() };
    words.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

fn process(page: &mut Page, story: &Explanation) {
    page.heading("What it is");
    let Some(process) = &story.process else {
        page.say("It does not run: there is no process, only what is on disk. Start it to see its namespaces, ids, limits and privileges.");
        return;
    };
    page.say("A container is an ordinary process of the host that sees a world of its own. There is no machine inside, and no second kernel.");
    page.gap();
    page.fact("on the host", &format!("process {}, user id {}", process.host_pid, process.host_uid));
    page.fact("inside", &format!("process {}", process.container_pid));
}

fn kernel(page: &mut Page, story: &Explanation) {
    page.heading("Kernel");
    page.say("It is the host's: every container on this machine shares it.");
    page.gap();
    page.fact("release", &format!("{} {}", story.kernel.release, story.kernel.machine));
    page.fact("version", &story.kernel.version);
}

fn namespaces(page: &mut Page, story: &Explanation) {
    if story.namespaces.is_empty() {
        return;
    }
    page.heading("Namespaces");
    page.say("Each hides one kind of thing. Different numbers mean a world of its own; the same number means that it shares the host's.");
    page.gap();
    let rows: Vec<Vec<String>> = story
        .namespaces
        .iter()
        .map(|one| {
            let whose = if one.own { "own" } else { "shared" };
            vec![
                one.kind.to_owned(),
                whose.to_owned(),
                one.container.to_string(),
                one.host.to_string(),
                one.isolates.to_owned(),
            ]
        })
        .collect();
    page.table(&["kind", "whose", "here", "host", "hides"], &rows);
}

fn users(page: &mut Page, story: &Explanation) {
    if story.uid_map.is_empty() {
        return;
    }
    page.heading("Users");
    if let [one] = story.uid_map.as_slice()
        && one.container == 0
        && one.host == 0
        && one.size == u32::MAX
    {
        page.say("Its users are the host's users: root inside is root on the host.");
        return;
    }
    page.say("Users inside are other users outside: root in the container has no power over the host.");
    page.gap();
    let range = |first: u32, size: u32| match size {
        1 => first.to_string(),
        _ => format!("{first}–{}", u64::from(first) + u64::from(size) - 1),
    };
    for (label, map) in [("user ids", &story.uid_map), ("group ids", &story.gid_map)] {
        for one in map {
            page.fact(
                label,
                &format!("{} inside = {} on the host", range(one.container, one.size), range(one.host, one.size)),
            );
        }
    }
}

fn limits(page: &mut Page, story: &Explanation) {
    let Some(cgroup) = &story.cgroup else { return };
    page.heading("Limits and use");
    page.say(&format!(
        "The kernel counts and limits all its processes together, in a cgroup (version {}).",
        cgroup.version
    ));
    page.gap();
    let limit = |limit: Option<String>| limit.map_or("no limit".to_owned(), |limit| format!("at most {limit}"));
    page.fact(
        "memory",
        &format!("{}, {}", human::memory(cgroup.memory), limit(cgroup.memory_limit.map(human::memory))),
    );
    page.fact("processes", &format!("{}, {}", cgroup.pids, limit(cgroup.pids_limit.map(|pids| pids.to_string()))));
    page.fact("CPU time used", &format!("{:.2} s", cgroup.cpu_time as f64 / 1e9));
    page.fact("CPUs", &limit(cgroup.cpu_limit.map(|nano| format!("{}", nano as f64 / 1e9))));
    if let Some(shares) = cgroup.cpu_shares {
        page.fact("CPU weight", &format!("{shares} (1024 is usual)"));
    }
    if !cgroup.cpuset.is_empty() {
        page.fact("runs on CPUs", &cgroup.cpuset);
    }
    let (read, written) = cgroup.block;
    page.fact("block devices", &format!("{} read, {} written", human::size(read), human::size(written)));
    if cgroup.oom_kills > 0 {
        page.fact("out of memory", &format!("the kernel killed a process in it {} times", cgroup.oom_kills));
    }
    // On v1 each controller has a directory; that of the memory controller stands for all.
    let memory = cgroup.directories.iter().find(|(controller, _)| controller == "memory");
    if let Some((_, directory)) = memory.or(cgroup.directories.first()) {
        page.fact("cgroup", directory);
    }
}

fn files(page: &mut Page, story: &Explanation) {
    let files = &story.files;
    page.heading("Files");
    page.say("Read-only layers, shared by all containers of the image, and on top of them a directory of its own with what it changed.");
    page.gap();
    for (index, layer) in files.layers.iter().enumerate() {
        let size = layer.size.map_or("the machine's own tree".to_owned(), human::size);
        page.fact(&format!("layer {}", files.layers.len() - index), &format!("{size}  {}", layer.path));
    }
    page.fact("changes", &format!("{}  {}", human::size(files.changed_bytes), files.writable));
    if files.changes.is_empty() {
        return;
    }
    page.gap();
    let rows: Vec<Vec<String>> = files
        .changes
        .iter()
        .take(CHANGES)
        .map(|change| vec![change.what.to_owned(), human::size(change.size), change.path.clone()])
        .collect();
    page.table(&["what", "size", "path"], &rows);
    let more = files.changed.saturating_sub(rows.len() as u64);
    if more > 0 {
        page.say(&format!("… and {more} more"));
    }
}

fn mounts(page: &mut Page, story: &Explanation) {
    if story.mounts.is_empty() {
        return;
    }
    page.heading("Mounts");
    page.say("What the container sees as its files, in the order in which the kernel lists it.");
    page.gap();
    let access = |options: &str| if options.split(',').any(|option| option == "ro") { "read-only" } else { "writable" };
    let rows: Vec<Vec<String>> = story
        .mounts
        .iter()
        .map(|mount| vec![mount.kind.clone(), access(&mount.options).to_owned(), mount.target.clone()])
        .collect();
    page.table(&["type", "access", "path"], &rows);
    if !story.volumes.is_empty() {
        page.gap();
    }
    for volume in &story.volumes {
        let name =
            if volume.name.is_empty() { volume.source.clone() } else { format!("{} ({})", volume.name, volume.source) };
        page.fact(&volume.kind, &format!("{name} at {}", volume.destination));
    }
}

fn privileges(page: &mut Page, story: &Explanation) {
    let Some(may) = &story.privileges else { return };
    page.heading("Privileges");
    page.say("What root in the container may do beyond other users, and which system calls the kernel answers.");
    page.gap();
    let list = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join(" ") };
    page.fact("capabilities", &list(&may.effective));
    if may.bounding != may.effective {
        page.fact("at most", &list(&may.bounding));
    }
    let seccomp = match may.seccomp {
        "filter" => format!("system calls are filtered ({})", count(may.seccomp_filters.into(), "filter")),
        "disabled" => "system calls are not filtered".to_owned(),
        other => other.to_owned(),
    };
    page.fact("seccomp", &seccomp);
    let gain = if may.no_new_privileges { "setuid programs gain nothing" } else { "setuid programs work" };
    page.fact("new privileges", gain);
    page.fact("security label", if may.security_label.is_empty() { "none" } else { &may.security_label });
}

fn monitor(page: &mut Page, story: &Explanation) {
    let Some(monitor) = &story.monitor else { return };
    page.heading("Monitor");
    page.say("One small process owns the container: its streams, its log, its exit code. There is no daemon.");
    page.gap();
    let memory = monitor.memory.map_or(String::new(), |bytes| format!(", {} of memory", human::memory(bytes)));
    page.fact("process", &format!("{}{memory}", monitor.pid));
}

fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_does_not_run() {
        let story = Explanation { name: "web".to_owned(), status: "exited".to_owned(), ..Explanation::default() };
        let text = tell(&story);
        assert!(text.starts_with("web  ()"), "{text}");
        assert!(text.contains("It does not run"), "{text}");
        for heading in ["NAMESPACES", "USERS", "LIMITS", "PRIVILEGES", "MONITOR"] {
            assert!(!text.contains(heading), "{text}");
        }
    }

    #[test]
    fn words_with_spaces_are_quoted() {
        assert_eq!(command(&["sh".to_owned(), "-c".to_owned(), "sleep 1".to_owned()]), "sh -c \"sleep 1\"");
    }
}
