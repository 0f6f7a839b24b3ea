//! Which stages a build needs, and in what order: bases, `COPY --from` and `RUN --mount=from=` lead from one to another.

use std::collections::BTreeSet;

use crate::dockerfile::{Dockerfile, Instruction, Stage, Step};
use crate::request::Request;
use crate::scope::{BuildArguments, Platform, Scope};
use crate::source::Context;
use crate::{Error, Result};

/// Where a stage starts, or where files come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nothing.
    Scratch,
    /// Another stage, by its place in the Dockerfile.
    Stage(usize),
    /// An image.
    Image(String),
    /// A named context of the command line.
    Named(String),
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
    /// Of every stage: a named context stands for all of it.
    pub replaced: Vec<bool>,
}

/// Finds out. `target` is a name or a number; none: the last stage.
pub fn plan(file: &Dockerfile, request: &Request, platform: &Platform) -> Result<Plan> {
    let target = request.target.as_deref();
    let mut globals = globals(file, &request.arguments, platform)?;
    globals.set("TARGETSTAGE", target.filter(|name| !name.is_empty()).unwrap_or("default"));
    let (mut bases, mut replaced) = (Vec::new(), Vec::new());
    for (index, stage) in file.stages.iter().enumerate() {
        let base = base(file, request, index, &globals).map_err(|error| error.at(stage.span))?;
        replaced.push(stage.from.name.as_deref().is_some_and(|name| named(request, name).is_some()));
        bases.push(base);
    }
    if bases.is_empty() {
        return Err(Error::new("dockerfile contains no stages to build"));
    }
    let mut needs = Vec::new();
    for (index, stage) in file.stages.iter().enumerate() {
        let mut wanted = BTreeSet::new();
        for step in stage.steps.iter().filter(|_| !replaced[index]) {
            wanted.extend(sources(file, request, step).map_err(|error| error.at(step.span))?);
        }
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
    Ok(Plan { globals, target, order, bases, needs, replaced })
}

/// Where the files of `--from` come from.
pub fn origin(file: &Dockerfile, request: &Request, name: &str) -> Result<Origin> {
    match find(file, file.stages.len(), name) {
        Some(index) => Ok(Origin::Stage(index)),
        None => elsewhere(file, request, name),
    }
}

/// What a name that is no stage's stands for.
fn elsewhere(file: &Dockerfile, request: &Request, name: &str) -> Result<Origin> {
    match named(request, name) {
        Some(Context::Stage(target)) => find(file, file.stages.len(), target)
            .map(Origin::Stage)
            .ok_or_else(|| Error::new(format!("context {name}: target stage {target:?} could not be found"))),
        Some(_) => Ok(Origin::Named(name.to_owned())),
        None => Ok(Origin::Image(name.to_owned())),
    }
}

/// A named context of the command line. `alpine`, `alpine:latest` and `docker.io/library/alpine` are the same name.
pub(crate) fn named<'r>(request: &'r Request, name: &str) -> Option<&'r Context> {
    let wanted = familiar(name);
    request.contexts.iter().find(|(known, _)| familiar(known) == wanted).map(|(_, context)| context)
}

fn familiar(name: &str) -> String {
    let lower = name.to_lowercase();
    let short =
        lower.strip_prefix("docker.io/").map_or(lower.as_str(), |rest| rest.strip_prefix("library/").unwrap_or(rest));
    short.strip_suffix(":latest").unwrap_or(short).to_owned()
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

fn base(file: &Dockerfile, request: &Request, index: usize, globals: &Scope) -> Result<Origin> {
    let stage: &Stage = &file.stages[index];
    if let Some(name) = stage.from.name.as_deref().filter(|name| named(request, name).is_some()) {
        return elsewhere(file, request, name);
    }
    let name = globals.word(&stage.from.base, file.escape)?;
    if name.is_empty() {
        return Err(Error::new(format!("base name ({}) should not be blank", stage.from.base)));
    }
    // Only a stage that stands before this one can be its base.
    Ok(match by_name(file, index, &name) {
        Some(stage) => Origin::Stage(stage),
        None if name == "scratch" => Origin::Scratch,
        None => elsewhere(file, request, &name)?,
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
fn sources(file: &Dockerfile, request: &Request, step: &Step) -> Result<Vec<usize>> {
    let names: Vec<String> = match &step.instruction {
        Instruction::Copy(copy) => vec![copy.from.clone()],
        Instruction::Run(run) => run.mounts.iter().filter_map(|mount| from_of(mount)).collect(),
        _ => Vec::new(),
    };
    let mut stages = Vec::new();
    for name in names.iter().filter(|name| !name.is_empty()) {
        if let Origin::Stage(index) = origin(file, request, name)? {
            stages.push(index);
        }
    }
    Ok(stages)
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
        let target = target.map(str::to_owned);
        let request = Request { arguments: BuildArguments(arguments), target, ..Request::default() };
        plan(&parse(source.as_bytes()).unwrap(), &request, &Platform::host())
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
    fn named_contexts_replace_stages_and_images() {
        let file = parse(
            b"FROM alpine AS a\nRUN x\nFROM docker.io/library/busybox:latest\nCOPY --from=a /a /b\nCOPY --from=c /c /d",
        )
        .unwrap();
        let context = |name: &str, context| (name.to_owned(), context);
        let contexts = vec![
            context("A", Context::Image("other".into())),
            context("busybox", Context::Stage("a".into())),
            context("c", Context::Directory("/c".into())),
        ];
        let request = Request { contexts, ..Request::default() };
        let plan = plan(&file, &request, &Platform::host()).unwrap();
        assert_eq!(plan.bases, [Origin::Named("a".into()), Origin::Stage(0)]);
        assert_eq!((plan.replaced, plan.order), (vec![true, false], vec![0, 1]));
        assert_eq!(origin(&file, &request, "c").unwrap(), Origin::Named("c".into()));
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
