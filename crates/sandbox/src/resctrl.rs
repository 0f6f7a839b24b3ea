//! Intel's Resource Director Technology (runtime-spec, config-linux.md "IntelRdt"): classes of service and monitoring
//! groups in a mounted resctrl file system (kernel documentation, `filesystems/resctrl.rst`).

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxIntelRdt;

/// Directories that the kernel itself has in every class.
const RESERVED: [&str; 5] = [".", "..", "info", "mon_groups", "mon_data"];

/// Puts process `pid` of container `id` into its class of service and its monitoring group, which are made if they have
/// to be. Whatever was made is gone again after a failure.
pub(crate) fn join(rdt: &LinuxIntelRdt, id: &str, pid: i32) -> Result<(), String> {
    join_below(&mounted()?, rdt, id, pid)
}

/// Removes what [`join`] has made for the container and must not outlive it.
pub fn remove(rdt: &LinuxIntelRdt, id: &str) -> Result<(), String> {
    // Without the file system there is nothing left to remove.
    let Ok(root) = mounted() else { return Ok(()) };
    let group = Group::new(&root, rdt, id)?;
    let monitoring = group.monitoring(id).filter(|_| monitors(rdt));
    let own = Some(group.directory).filter(|_| !group.named);
    monitoring.into_iter().chain(own).try_for_each(|directory| remove_directory(&directory))
}

/// Changes the class of service that the container is in: lines of its `schemata` file.
pub fn change(rdt: &LinuxIntelRdt, id: &str, lines: &[&str]) -> Result<(), String> {
    change_below(&mounted()?, rdt, id, lines)
}

fn change_below(root: &Path, rdt: &LinuxIntelRdt, id: &str, lines: &[&str]) -> Result<(), String> {
    let file = Group::new(root, rdt, id)?.directory.join("schemata");
    lines.iter().try_for_each(|line| write(&file, &format!("{line}\n")))
}

/// Refuses what is malformed, wherever it is to be carried out.
pub(crate) fn check(rdt: &LinuxIntelRdt) -> Result<(), String> {
    if let Some(name) = rdt.clos_id().as_deref().filter(|name| *name != "/") {
        let plain = !name.is_empty() && !name.contains('/') && !RESERVED.contains(&name);
        plain.then_some(()).ok_or_else(|| format!("closID: {name:?} is no name of a class"))?;
    }
    let lines = [("l3CacheSchema", "L3:", rdt.l3_cache_schema()), ("memBwSchema", "MB:", rdt.mem_bw_schema())];
    for (field, start, line) in lines {
        if line.as_ref().is_some_and(|line| !line.is_empty() && !line.starts_with(start)) {
            return Err(format!("{field}: must start with {start:?}"));
        }
    }
    match schemata(rdt).iter().find(|line| line.contains('\n') || !line.contains(':')) {
        Some(line) => Err(format!("schemata: {line:?} is no line of a schemata file")),
        None => mounted().map(drop),
    }
}

fn join_below(root: &Path, rdt: &LinuxIntelRdt, id: &str, pid: i32) -> Result<(), String> {
    let group = Group::new(root, rdt, id)?;
    let wanted = schemata(rdt);
    let mut made = Made::default();
    match (group.directory.is_dir(), group.named) {
        (true, true) => group.check_existing(&wanted)?,
        (true, false) => return Err(format!("closID: class {id:?} exists already")),
        (false, true) if wanted.is_empty() => {
            return Err(format!("closID: there is no class {}", group.directory.display()));
        }
        (false, _) => {
            made.directory(&group.directory)?;
            wanted.iter().try_for_each(|line| write(&group.directory.join("schemata"), &format!("{line}\n")))?;
        }
    }
    write(&group.directory.join("tasks"), &pid.to_string())?;
    if let Some(directory) = group.monitoring(id).filter(|_| monitors(rdt)) {
        made.directory(&directory)?;
        write(&directory.join("tasks"), &pid.to_string())?;
    }
    made.keep();
    Ok(())
}

/// A class of service.
struct Group {
    directory: PathBuf,
    /// The configuration names it; else it is the container's own.
    named: bool,
}

impl Group {
    fn new(root: &Path, rdt: &LinuxIntelRdt, id: &str) -> Result<Self, String> {
        match rdt.clos_id().as_deref() {
            Some("/") => Ok(Self { directory: root.to_owned(), named: true }),
            Some(name) => Ok(Self { directory: root.join(name), named: true }),
            None if RESERVED.contains(&id) || id.contains('/') => Err(format!("closID: {id:?} is no name of a class")),
            None => Ok(Self { directory: root.join(id), named: false }),
        }
    }

    fn monitoring(&self, id: &str) -> Option<PathBuf> {
        (!id.is_empty() && !id.contains('/')).then(|| self.directory.join("mon_groups").join(id))
    }

    /// What was configured before must be what is wanted.
    fn check_existing(&self, wanted: &[&str]) -> Result<(), String> {
        if wanted.is_empty() {
            return Ok(());
        }
        let path = self.directory.join("schemata");
        let present = fs::read_to_string(&path).map_err(|error| format!("read {}: {error}", path.display()))?;
        match wanted.iter().find(|line| !is_in(line, &present)) {
            None => Ok(()),
            Some(line) => Err(format!("{line:?} is not what {} has", path.display())),
        }
    }
}

/// Whether each `id=value` of a line is in force.
fn is_in(line: &str, present: &str) -> bool {
    let Some((resource, wanted)) = line.split_once(':') else { return false };
    let same = |(name, _): &(&str, &str)| name.trim() == resource.trim();
    let Some((_, values)) = present.lines().filter_map(|line| line.split_once(':')).find(same) else { return false };
    let pairs = |text: &str| -> Vec<(String, String)> {
        let pairs = text.split(';').filter_map(|pair| pair.split_once('='));
        pairs.map(|(id, value)| (number(id), number(value))).collect()
    };
    let values = pairs(values);
    pairs(wanted).iter().all(|pair| values.contains(pair))
}

fn number(text: &str) -> String {
    let text = text.trim().trim_start_matches('0').to_ascii_lowercase();
    if text.is_empty() { "0".to_owned() } else { text }
}

/// The lines to write, in the order that the specification wants.
fn schemata(rdt: &LinuxIntelRdt) -> Vec<&str> {
    let single = [rdt.l3_cache_schema().as_deref(), rdt.mem_bw_schema().as_deref()];
    let single = single.into_iter().flatten().filter(|line| !line.is_empty());
    single.chain(rdt.schemata().iter().flatten().map(String::as_str)).collect()
}

/// One switch in 1.3, two in earlier versions, which hardware cannot tell apart.
#[allow(deprecated, reason = "earlier versions of the specification have them")]
fn monitors(rdt: &LinuxIntelRdt) -> bool {
    [rdt.enable_monitoring(), rdt.enable_cmt(), rdt.enable_mbm()].iter().any(|switch| **switch == Some(true))
}

/// Where resctrl is mounted.
fn mounted() -> Result<PathBuf, String> {
    let mounts =
        fs::read_to_string("/proc/self/mountinfo").map_err(|error| format!("read the mount table: {error}"))?;
    let point = mounts.lines().find_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        filesystem.starts_with("resctrl ").then(|| mount.split(' ').nth(4))?
    });
    point.map(PathBuf::from).ok_or_else(|| {
        "no resctrl file system is mounted; hint: mount -t resctrl resctrl /sys/fs/resctrl, on a CPU that has RDT"
            .into()
    })
}

fn write(path: &Path, value: &str) -> Result<(), String> {
    let written = OpenOptions::new().write(true).open(path).and_then(|mut file| file.write_all(value.as_bytes()));
    written.map_err(|error| format!("write {:?} to {}: {error}", value.trim_end(), path.display()))
}

fn remove_directory(path: &Path) -> Result<(), String> {
    match fs::remove_dir(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("remove {}: {error}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Directories made so far; removed again unless kept.
#[derive(Default)]
struct Made(Vec<PathBuf>);

impl Made {
    fn directory(&mut self, path: &Path) -> Result<(), String> {
        fs::create_dir(path).map_err(|error| format!("make {}: {error}", path.display()))?;
        self.0.push(path.to_owned());
        Ok(())
    }

    fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        self.0.iter().rev().for_each(|path| drop(fs::remove_dir(path)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rdt(json: &str) -> LinuxIntelRdt {
        serde_json::from_str(json).unwrap()
    }

    /// Files as the kernel makes them; it makes those of new classes by itself, which no directory of ours does.
    fn class(root: &Path, name: &str, schemata: &str) -> PathBuf {
        let directory = root.join(name);
        fs::create_dir_all(directory.join("mon_groups")).unwrap();
        fs::write(directory.join("schemata"), schemata).unwrap();
        fs::write(directory.join("tasks"), "").unwrap();
        directory
    }

    #[test]
    fn the_order_is_that_of_the_specification() {
        let all = rdt(r#"{"schemata": ["L2:0=f"], "memBwSchema": "MB:0=20", "l3CacheSchema": "L3:0=7f0"}"#);
        assert_eq!(schemata(&all), ["L3:0=7f0", "MB:0=20", "L2:0=f"]);
        assert!(monitors(&rdt(r#"{"enableMonitoring": true}"#)) && !monitors(&all));
    }

    #[test]
    fn existing_classes_must_be_as_wanted() {
        let root = tempfile::tempdir().unwrap();
        let gold = class(root.path(), "gold", "    MB:0= 20;1= 70\n    L3:0=07f0;1=001f\n");
        let join = |json: &str| join_below(root.path(), &rdt(json), "c1", 42);
        join(r#"{"closID": "gold"}"#).unwrap();
        assert_eq!(fs::read_to_string(gold.join("tasks")).unwrap(), "42");
        join(r#"{"closID": "gold", "l3CacheSchema": "L3:0=7F0;1=1f", "memBwSchema": "MB:1=70"}"#).unwrap();
        for other in [r#""l3CacheSchema": "L3:0=7f1""#, r#""schemata": ["L2:0=f"]"#] {
            assert!(join(&format!(r#"{{"closID": "gold", {other}}}"#)).unwrap_err().contains("is not what"));
        }
        assert!(join(r#"{"closID": "silver"}"#).unwrap_err().contains("there is no class"));
        // Made, but without the kernel's files: undone.
        assert!(join(r#"{"closID": "silver", "schemata": ["MB:0=10"]}"#).unwrap_err().contains("schemata"));
        assert!(join(r#"{"closID": "gold", "enableMonitoring": true}"#).unwrap_err().contains("mon_groups/c1/tasks"));
        assert!(!root.path().join("silver").exists() && !gold.join("mon_groups/c1").exists());
    }

    #[test]
    fn running_classes_change() {
        let root = tempfile::tempdir().unwrap();
        let own = class(root.path(), "c1", "");
        change_below(root.path(), &rdt("{}"), "c1", &["L3:0=f"]).unwrap();
        assert_eq!(fs::read_to_string(own.join("schemata")).unwrap(), "L3:0=f\n");
        assert!(change_below(root.path(), &rdt("{}"), "c2", &["L3:0=f"]).unwrap_err().contains("c2/schemata"));
    }

    #[test]
    fn malformed_values_name_the_field() {
        let cases = [
            (r#"{"closID": "../x"}"#, "closID"),
            (r#"{"closID": "info"}"#, "closID"),
            (r#"{"memBwSchema": "L3:0=f"}"#, "memBwSchema"),
            (r#"{"l3CacheSchema": "MB:0=f"}"#, "l3CacheSchema"),
            (r#"{"schemata": ["L3:0=f\nMB:0=1"]}"#, "schemata"),
        ];
        for (json, field) in cases {
            assert!(check(&rdt(json)).unwrap_err().starts_with(field), "{json}");
        }
    }
}
