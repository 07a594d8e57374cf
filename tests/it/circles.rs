//! No circle of files: a file of `src` never needs, by way of others, itself.
//!
//! What a module re-exports counts as imported from the file that defines it. A part of a module may use what the
//! module itself defines: it is inside of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::Visit;

use super::tidy::files_below;

/// A module: its path from the crate, `["registry", "sqlite"]`.
type Module = Vec<String>;

/// What a file says about names.
#[derive(Default)]
struct Names {
    file: String,
    /// What `pub use` (of any visibility but none) brings, by the name that it gets.
    exported: BTreeMap<String, Vec<String>>,
    /// Modules of which everything is re-exported.
    globs: Vec<Vec<String>>,
    /// Paths that are named otherwise, as written.
    named: BTreeSet<Vec<String>>,
}

impl<'ast> Visit<'ast> for Names {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let is_test = item.attrs.iter().any(|attribute| attribute.path().is_ident("cfg"));
        if !is_test {
            syn::visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let is_exported = !matches!(item.vis, syn::Visibility::Inherited);
        let mut found = Vec::new();
        flatten(&item.tree, &mut Vec::new(), &mut found);
        for (path, name) in found {
            match name {
                Some(name) if is_exported => drop(self.exported.insert(name, path)),
                None if is_exported => self.globs.push(path),
                Some(_) | None => drop(self.named.insert(path)),
            }
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if segments.len() > 1 {
            self.named.insert(segments);
        }
        syn::visit::visit_path(self, path);
    }
}

/// Lists the paths of a tree of `use`, each with the name that it gets; `None` for `*`.
fn flatten(tree: &syn::UseTree, before: &mut Vec<String>, found: &mut Vec<(Vec<String>, Option<String>)>) {
    match tree {
        syn::UseTree::Path(part) => {
            before.push(part.ident.to_string());
            flatten(&part.tree, before, found);
            before.pop();
        }
        syn::UseTree::Group(group) => group.items.iter().for_each(|item| flatten(item, before, found)),
        syn::UseTree::Glob(_) => found.push((before.clone(), None)),
        syn::UseTree::Name(name) => {
            let ident = name.ident.to_string();
            let path = if ident == "self" { before.clone() } else { [before.as_slice(), &[ident]].concat() };
            let last = path.last().cloned();
            found.push((path, last));
        }
        syn::UseTree::Rename(rename) => {
            let path = [before.as_slice(), &[rename.ident.to_string()]].concat();
            found.push((path, Some(rename.rename.to_string())));
        }
    }
}

/// The modules of the crate, each with its file.
struct Crate {
    modules: BTreeMap<Module, Names>,
}

impl Crate {
    fn read(root: &Path) -> Crate {
        let mut files = Vec::new();
        files_below(root, &mut files);
        let mut modules = BTreeMap::new();
        for file in files {
            let path = file.strip_prefix(root).unwrap().with_extension("");
            let mut module: Module = path.iter().map(|part| part.to_str().unwrap().to_string()).collect();
            match module.last().map(String::as_str) {
                Some("main" | "tests") => continue,
                Some("mod" | "lib") => drop(module.pop()),
                _ => {}
            }
            let file_name = file.strip_prefix(root).unwrap().to_str().unwrap().to_string();
            let parsed = syn::parse_file(&fs::read_to_string(&file).unwrap()).unwrap();
            let mut names = Names { file: file_name, ..Names::default() };
            names.visit_file(&parsed);
            modules.insert(module, names);
        }
        Crate { modules }
    }

    /// Returns the module of which the file defines what a path names in a module; `None` for what is not of this
    /// crate.
    fn defining(&self, module: &Module, path: &[String]) -> Option<Module> {
        self.defining_within(module, path, 0)
    }

    fn defining_within(&self, module: &Module, path: &[String], depth: usize) -> Option<Module> {
        assert!(depth < 32, "re-exports of {path:?} end somewhere");
        let (mut at, mut rest) = match path.first()?.as_str() {
            "crate" => (Module::new(), &path[1..]),
            "self" => (module.clone(), &path[1..]),
            "super" => (module[..module.len().checked_sub(1)?].to_vec(), &path[1..]),
            first => {
                let child = [module.as_slice(), &[first.to_string()]].concat();
                let is_here = self.modules.contains_key(&child) || self.modules[module].exported.contains_key(first);
                if !is_here {
                    return None;
                }
                (module.clone(), path)
            }
        };
        while let [first, others @ ..] = rest {
            if first == "super" {
                at.pop();
                rest = others;
                continue;
            }
            let child = [at.as_slice(), std::slice::from_ref(first)].concat();
            if self.modules.contains_key(&child) {
                (at, rest) = (child, others);
                continue;
            }
            let names = &self.modules[&at];
            if let Some(exported) = names.exported.get(first) {
                return self.defining_within(&at, exported, depth + 1).or(Some(at));
            }
            for glob in &names.globs {
                let inside = self.defining_within(&at, glob, depth + 1)?;
                let is_defined = fs::read_to_string(root().join(&self.modules[&inside].file))
                    .is_ok_and(|text| text.contains(&format!(" {first}")));
                if is_defined {
                    return Some(inside);
                }
            }
            return Some(at);
        }
        Some(at)
    }

    /// Returns for each file the files that it imports from.
    fn imports(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut imports: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (module, names) in &self.modules {
            let from = imports.entry(&names.file).or_default();
            for path in &names.named {
                if let Some(target) = self.defining(module, path)
                    && !module.starts_with(&target)
                {
                    from.insert(&self.modules[&target].file);
                }
            }
        }
        imports
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Returns the groups of files that reach each other, by Kosaraju's two walks.
fn circles(imports: &BTreeMap<&str, BTreeSet<&str>>) -> Vec<Vec<String>> {
    fn walk<'a>(
        file: &'a str,
        edges: &BTreeMap<&'a str, BTreeSet<&'a str>>,
        seen: &mut BTreeSet<&'a str>,
        order: &mut Vec<&'a str>,
    ) {
        if seen.insert(file) {
            for next in edges.get(file).into_iter().flatten() {
                walk(next, edges, seen, order);
            }
            order.push(file);
        }
    }
    let (mut order, mut seen) = (Vec::new(), BTreeSet::new());
    for file in imports.keys() {
        walk(file, imports, &mut seen, &mut order);
    }
    let mut reversed: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (from, targets) in imports {
        for to in targets {
            reversed.entry(to).or_default().insert(from);
        }
    }
    let (mut groups, mut seen) = (Vec::new(), BTreeSet::new());
    for file in order.into_iter().rev() {
        let mut group = Vec::new();
        walk(file, &reversed, &mut seen, &mut group);
        if group.len() > 1 {
            group.sort_unstable();
            groups.push(group.into_iter().map(str::to_string).collect());
        }
    }
    groups
}

#[test]
fn files_do_not_import_each_other_in_a_circle() {
    let sources = Crate::read(&root());
    let imports = sources.imports();
    let edges: usize = imports.values().map(BTreeSet::len).sum();
    assert!(edges > 500, "{edges} imports are found");
    let found = circles(&imports);
    let list: Vec<String> = found
        .iter()
        .map(|group| {
            let within = |file: &String| {
                let targets: Vec<&str> =
                    imports[file.as_str()].iter().copied().filter(|to| group.iter().any(|one| one == to)).collect();
                format!("  {file} -> {}", targets.join(", "))
            };
            group.iter().map(within).collect::<Vec<_>>().join("\n")
        })
        .collect();
    assert!(list.is_empty(), "files import each other in a circle:\n{}\n", list.join("\n\n"));
}

#[test]
fn a_circle_is_found_and_a_re_export_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("lib.rs", "mod a; mod b;");
    write("a/mod.rs", "mod one; mod two; pub use one::One; pub use two::Two;");
    write("a/one.rs", "use super::Two; pub struct One(Two);");
    write("a/two.rs", "pub struct Two;");
    write("b.rs", "use crate::a::One; pub struct B(One);");
    let sources = Crate::read(folder.path());
    assert_eq!(circles(&sources.imports()), Vec::<Vec<String>>::new());
    write("a/two.rs", "pub struct Two(Box<super::One>);");
    let sources = Crate::read(folder.path());
    assert_eq!(circles(&sources.imports()), [["a/one.rs", "a/two.rs"]]);
}
