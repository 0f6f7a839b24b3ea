//! Which stages a build needs, and in what order: bases, `COPY --from` and `RUN --mount=from=` lead from one to another.

use std::collections::BTreeSet;

use crate::dockerfile::{Dockerfile, Instruction, Stage, Step};
use crate::scope::{BuildArguments, Platform, Scope};
use crate::{Error, Result};

/// Where a stage starts, or where files come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nothing.
    Scratch,
    /// Another stage, by its place in the Dockerfile.
    Stage(usize),
    /// An image, or a named context of the command line.
    Image(String),
}

/// The stages of a build.
#[derive(Debug)]
pub struct Plan {
    /// Global arguments.
    pub globals: Scope,
    /// The stage that is wanted.
    pub target: usize,
    /// All that are needed, each behind those that it needs.
    pub order: Vec<usize>,
    /// Of every stage in the Dockerfile: where it starts.
    pub bases: Vec<Origin>,
    /// Of every stage: which others it needs.
    pub needs: Vec<BTreeSet<usize>>,
}

/// Finds out. `target` is a name or a number; none: the last stage.
pub fn plan(file: &Dockerfile, arguments: &BuildArguments, target: Option<&str>, platform: &Platform) -> Result<Plan> {
    let globals = globals(file, arguments, platform)?;
    let mut bases = Vec::new();
    for (index, stage) in file.stages.iter().enumerate() {
        let base = base(file, index, stage, &globals).map_err(|error| error.at(stage.span))?;
        bases.push(base);
    }
    if bases.is_empty() {
        return Err(Error::new("dockerfile contains no stages to build"));
    }
    let mut needs = Vec::new();
    for (index, stage) in file.stages.iter().enumerate() {
        let mut wanted: BTreeSet<usize> = stage.steps.iter().flat_map(|step| sources(file, step)).collect();
        if let Origin::Stage(base) = bases[index] {
            wanted.insert(base);
        }
        needs.push(wanted);
    }
    let target = match target {
        None | Some("") => file.stages.len() - 1,
        Some(name) => find(file, file.stages.len(), name)
            .ok_or_else(|| Error::new(format!("target stage {name:?} could not be found")))?,
    };
    let mut order = Vec::new();
    visit(target, file, &needs, &mut order, &mut BTreeSet::new())?;
    Ok(Plan { globals, target, order, bases, needs })
}

/// Where the files of `--from` come from.
pub fn origin(file: &Dockerfile, name: &str) -> Origin {
    find(file, file.stages.len(), name).map_or_else(|| Origin::Image(name.to_owned()), Origin::Stage)
}

/// ARGs before the first FROM: the command line's value, or the default, in which earlier ones are expanded.
fn globals(file: &Dockerfile, arguments: &BuildArguments, platform: &Platform) -> Result<Scope> {
    let mut scope = Scope::default();
    let predefined = Platform::host().arguments("BUILD").into_iter().chain(platform.arguments("TARGET"));
    predefined.for_each(|(name, value)| scope.set(&name, &value));
    for step in &file.globals {
        let Instruction::Arg(declared) = &step.instruction else { continue };
        for argument in declared {
            let value = match (arguments.get(&argument.key), &argument.value) {
                (Some(given), _) => given.to_owned(),
                (None, Some(default)) => scope.word(default, file.escape).map_err(|error| error.at(step.span))?,
                (None, None) => continue,
            };
            scope.set(&argument.key, &value);
        }
    }
    Ok(scope)
}

fn base(file: &Dockerfile, index: usize, stage: &Stage, globals: &Scope) -> Result<Origin> {
    let name = globals.word(&stage.from.base, file.escape)?;
    if name.is_empty() {
        return Err(Error::new(format!("base name ({}) should not be blank", stage.from.base)));
    }
    // Only a stage that stands before this one can be its base.
    Ok(match by_name(file, index, &name) {
        Some(stage) => Origin::Stage(stage),
        None if name == "scratch" => Origin::Scratch,
        None => Origin::Image(name),
    })
}

/// The last stage of that name before `end`.
fn by_name(file: &Dockerfile, end: usize, name: &str) -> Option<usize> {
    let lower = name.to_lowercase();
    file.stages[..end].iter().rposition(|stage| stage.from.name.as_deref() == Some(&lower))
}

/// The same, or by number.
fn find(file: &Dockerfile, end: usize, name: &str) -> Option<usize> {
    by_name(file, end, name).or_else(|| name.parse().ok().filter(|number| *number < end))
}

/// The stages that an instruction takes files from.
fn sources(file: &Dockerfile, step: &Step) -> Vec<usize> {
    let names: Vec<String> = match &step.instruction {
        Instruction::Copy(copy) => vec![copy.from.clone()],
        Instruction::Run(run) => run.mounts.iter().filter_map(|mount| from_of(mount)).collect(),
        _ => Vec::new(),
    };
    let known = names.iter().filter(|name| !name.is_empty()).map(|name| origin(file, name));
    known.filter_map(|origin| if let Origin::Stage(index) = origin { Some(index) } else { None }).collect()
}

/// `from=` of a mount: it is never expanded.
fn from_of(mount: &str) -> Option<String> {
    mount.split(',').find_map(|field| field.strip_prefix("from=")).map(str::to_owned)
}

fn visit(
    index: usize,
    file: &Dockerfile,
    needs: &[BTreeSet<usize>],
    order: &mut Vec<usize>,
    open: &mut BTreeSet<usize>,
) -> Result<()> {
    if order.contains(&index) {
        return Ok(());
    }
    if !open.insert(index) {
        let stage = &file.stages[index];
        let name = stage.from.name.clone().unwrap_or_else(|| index.to_string());
        return Err(Error::new(format!("circular dependency detected on stage: {name}")).at(stage.span));
    }
    needs[index].iter().try_for_each(|needed| visit(*needed, file, needs, order, open))?;
    open.remove(&index);
    order.push(index);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::parse;

    fn planned(source: &str, arguments: &[(&str, &str)], target: Option<&str>) -> Result<Plan> {
        let arguments = arguments.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        plan(&parse(source.as_bytes()).unwrap(), &BuildArguments(arguments), target, &Platform::host())
    }

    #[test]
    fn only_what_is_needed_in_order() {
        let source = "FROM a AS one\nFROM b AS unused\nFROM c AS two\nRUN --mount=from=4,target=/x y\nFROM One\n\
                      COPY --from=two /a /b\nCOPY --from=image:tag /a /b\nFROM d\n";
        let plan = planned(source, &[], Some("3")).unwrap();
        assert_eq!(plan.order, [0, 4, 2, 3]);
        assert_eq!(plan.bases[3], Origin::Stage(0));
        assert_eq!(planned(source, &[], None).unwrap().order, [4]);
    }

    #[test]
    fn global_arguments_choose_bases() {
        let source = "ARG V=1\nARG NAME=base:$V\nFROM ${NAME}-$TARGETARCH\nFROM scratch\n";
        let named = |plan: Plan| plan.bases[0].clone();
        let architecture = Platform::host().architecture;
        assert_eq!(named(planned(source, &[], None).unwrap()), Origin::Image(format!("base:1-{architecture}")));
        let other = planned(source, &[("V", "2"), ("X", "3")], None).unwrap();
        assert_eq!(other.bases, [Origin::Image(format!("base:2-{architecture}")), Origin::Scratch]);
    }

    #[test]
    fn what_cannot_be() {
        for (source, target, expected) in [
            ("FROM a", Some("b"), "target stage \"b\" could not be found"),
            ("FROM $none", None, "base name ($none) should not be blank"),
            ("FROM a AS x\nCOPY --from=y a b\nFROM b AS y\nCOPY --from=x a b", None, "circular dependency"),
        ] {
            assert!(planned(source, &[], target).unwrap_err().message.contains(expected), "{source}");
        }
        let platform = Platform::parse("linux/arm64/v8").unwrap();
        assert_eq!(platform.shown(), "linux/arm64");
        assert!(Platform::parse("linux").is_err());
    }
}
