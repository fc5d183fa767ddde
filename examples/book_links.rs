//! A preprocessor of mdBook for the pages in `src/docs`, which are written for rustdoc. `book.toml` names it, and
//! `mdbook build` runs it. It turns links such as `crate::Cache::get` and `crate::docs::limits` into links that work in
//! the book. Rustdoc takes a page's title from its module, so it also puts the title on top and moves headings down.
//!
//! ```sh
//! cargo doc --no-deps --all-features && mdbook build   # then open target/doc/book/index.html
//! ```

use std::collections::HashMap;
use std::error::Error;
use std::fs;
use std::io::Read;
use std::path::Path;

use serde_json::Value;

fn main() -> Result<(), Box<dyn Error>> {
    // mdBook asks first which renderers are supported, with the arguments `supports NAME`. All are.
    if std::env::args().nth(1).is_some_and(|argument| argument == "supports") {
        return Ok(());
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let mut input: Vec<Value> = serde_json::from_str(&text)?;
    let [context, book] = input.as_mut_slice() else { return Err("mdBook sends a context and a book".into()) };
    let base = context["config"]["preprocessor"]["book_links"]["rustdoc"].as_str();
    let links = Links { items: Items::read(Path::new("src"))?, rustdoc: base.unwrap_or("../driftless").to_owned() };
    let faults = rewrite(book, &links);
    if !faults.is_empty() {
        return Err(faults.join("\n").into());
    }
    println!("{book}");
    Ok(())
}

/// Rewrites each chapter in place. Returns a complaint about each link that leads nowhere.
pub fn rewrite(value: &mut Value, links: &Links) -> Vec<String> {
    let mut faults = Vec::new();
    match value {
        Value::Object(fields) => {
            if let Some(chapter) = fields.get_mut("Chapter") {
                let title = chapter["name"].as_str().unwrap_or_default().to_owned();
                match links.page(&title, chapter["content"].as_str().unwrap_or_default()) {
                    Ok(content) => chapter["content"] = content.into(),
                    Err(fault) => faults.push(fault),
                }
            }
            faults.extend(fields.values_mut().flat_map(|field| rewrite(field, links)));
        }
        Value::Array(elements) => faults.extend(elements.iter_mut().flat_map(|element| rewrite(element, links))),
        _ => {}
    }
    faults
}

/// The targets of links.
pub struct Links {
    /// The items to which links may lead.
    pub items: Items,
    /// The path or address of the output of rustdoc for this crate, without a slash at its end.
    pub rustdoc: String,
}

impl Links {
    /// Returns a page of rustdoc as a page of the book.
    ///
    /// # Errors
    /// A link names an item that the crate does not have.
    pub fn page(&self, title: &str, text: &str) -> Result<String, String> {
        let mut page = format!("# {title}\n\n");
        let mut fenced = false;
        for line in text.lines() {
            fenced ^= line.trim_start().starts_with("```");
            if fenced {
                page.push_str(line);
            } else {
                page.push_str(if line.starts_with('#') { "#" } else { "" });
                page.push_str(&self.line(line).map_err(|fault| format!("the page `{title}`: {fault}"))?);
            }
            page.push('\n');
        }
        Ok(page)
    }

    /// Replaces the links in one line of prose.
    fn line(&self, line: &str) -> Result<String, String> {
        let mut parts = line.split("](crate::");
        let mut rewritten = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (path, rest) = part.split_once(')').ok_or_else(|| format!("a link without an end: {line}"))?;
            rewritten.push_str(&format!("]({}){rest}", self.target(path)?));
        }
        Ok(rewritten)
    }

    /// Returns the target of a path below `crate`, which may end in an anchor.
    fn target(&self, path: &str) -> Result<String, String> {
        if let Some(page) = path.strip_prefix("docs::") {
            let (page, anchor) = page.split_once('#').map_or((page, String::new()), |(a, b)| (a, format!("#{b}")));
            return Ok(format!("{}.md{anchor}", page.replace('_', "-")));
        }
        let file = self.items.file(path).ok_or_else(|| format!("`crate::{path}` is no item of this crate"))?;
        Ok(format!("{}/{file}", self.rustdoc))
    }
}

/// The public items of the crate, as far as its sources show them without a compiler.
pub struct Items {
    /// By name, each declaration of a public type or function.
    declarations: HashMap<String, Vec<Declaration>>,
    /// The modules that rustdoc shows, as paths such as `cache/builder`.
    modules: Vec<String>,
    /// The names that the root exports, each with the module from which it comes.
    exports: Vec<(String, String)>,
}

struct Declaration {
    kind: &'static str,
    /// The path of the module of its file, such as `cache/builder`.
    module: String,
    /// The source from the line of the declaration on.
    source: String,
}

impl Items {
    /// Reads the sources below a folder, which has `lib.rs`.
    ///
    /// # Errors
    /// A file or folder cannot be read.
    pub fn read(folder: &Path) -> std::io::Result<Self> {
        let root = fs::read_to_string(folder.join("lib.rs"))?;
        let mut items = Self { declarations: HashMap::new(), modules: Vec::new(), exports: exports(&root) };
        let mut folders = vec![folder.to_owned()];
        while let Some(next) = folders.pop() {
            for entry in fs::read_dir(next)? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let module = path.strip_prefix(folder).unwrap_or(&path).with_extension("");
                    let module = module.to_string_lossy().replace('\\', "/");
                    let source = fs::read_to_string(&path)?;
                    items.modules.extend(modules(&module, &source));
                    items.declare(&module, &source);
                }
            }
        }
        items.declarations.values_mut().for_each(|declared| declared.sort_by(|a, b| a.module.cmp(&b.module)));
        Ok(items)
    }

    /// Adds the declarations in a source of a module.
    fn declare(&mut self, module: &str, source: &str) {
        let mut at = 0;
        for line in source.split_inclusive('\n') {
            let declared = ["struct", "enum", "trait"].into_iter().find_map(|kind| {
                let rest = line.trim_start().strip_prefix("pub ")?.strip_prefix(kind)?.strip_prefix(' ')?;
                Some((kind, rest))
            });
            let function = || line.strip_prefix("pub fn ").map(|rest| ("fn", rest)); // an indented one is a method
            if let Some((kind, rest)) = declared.or_else(function) {
                let name = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
                let declaration = Declaration { kind, module: module.to_owned(), source: source[at..].to_owned() };
                self.declarations.entry(name.to_owned()).or_default().push(declaration);
            }
            at += line.len();
        }
    }

    /// Returns the file in which rustdoc describes the item with this path below `crate`, with the anchor of a method,
    /// field or variant. Returns `None` if there is no such item.
    fn file(&self, path: &str) -> Option<String> {
        let mut names = path.split("::");
        let first = names.next()?;
        let (module, name) = match self.exports.iter().find(|(name, _)| name == first) {
            Some((_, module)) => (module.as_str(), first),
            None => (first, names.next()?),
        };
        // A name that comes from a hidden module may be declared in another module.
        let declared = self.declarations.get(name)?;
        let here = declared.iter().find(|it| it.module.split('/').next() == Some(module));
        let Declaration { kind, source, .. } = here.or(declared.first())?;
        let folder = self.shown(here.map_or(module, |it| &it.module));
        let anchor = names.next().map_or(Some(String::new()), |member| anchor(kind, source, member))?;
        Some(format!("{folder}{kind}.{name}.html{anchor}"))
    }

    /// Returns the folder in which rustdoc describes what a module declares: that of its last ancestor or itself up to
    /// which all modules are shown.
    fn shown(&self, module: &str) -> String {
        let mut folder = String::new();
        for name in module.split('/') {
            let next = format!("{folder}{name}");
            if !self.modules.contains(&next) {
                break;
            }
            folder = next + "/";
        }
        folder
    }
}

/// Returns the anchor of a member of an item, whose declaration is the first line of the text. Returns `None` if it has
/// no such member.
fn anchor(kind: &str, text: &str, member: &str) -> Option<String> {
    let indentation = &text[..text.len() - text.trim_start_matches(' ').len()];
    let body = &text[..text.find(&format!("\n{indentation}}}")).unwrap_or(text.len())];
    let declares = |text: &str, start: &str| {
        text.lines().filter_map(|line| line.trim_start().strip_prefix(start)).any(|rest| {
            let rest = rest.strip_prefix(member);
            rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
        })
    };
    let is_method = ["pub fn ", "pub async fn ", "pub const fn "].iter().any(|start| declares(text, start));
    match kind {
        "enum" if declares(body, "") => Some(format!("#variant.{member}")),
        "struct" if declares(body, "pub ") => Some(format!("#structfield.{member}")),
        _ if is_method => Some(format!("#method.{member}")),
        _ => None,
    }
}

/// Returns the paths of the modules that a module declares and rustdoc shows.
fn modules(parent: &str, source: &str) -> Vec<String> {
    let prefix = if parent == "lib" { String::new() } else { format!("{parent}/") };
    let lines: Vec<_> = source.lines().collect();
    let shown = |at: &usize| *at == 0 || lines[at - 1] != "#[doc(hidden)]";
    let named = (0..lines.len()).filter(shown).filter_map(|at| lines[at].strip_prefix("pub mod ")?.strip_suffix(';'));
    named.map(|name| format!("{prefix}{name}")).collect()
}

/// Returns the names that the root exports, each with the module from which it comes.
fn exports(root: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for statement in root.split("\npub use ").skip(1) {
        let statement = statement.split(';').next().unwrap_or_default();
        let Some((module, names)) = statement.split_once("::") else { continue };
        let names = names.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|name| !name.is_empty());
        found.extend(names.map(|name| (name.to_owned(), module.to_owned())));
    }
    found
}
