//! A reader of Rust source that knows modules, items and `use`; no types. It reads this crate's
//! library for the rules of the layer tests.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A path as it is written: `["super", "Cache", "open"]`.
pub(super) type Segments = Vec<String>;

/// All modules of the library, the crate's root first.
pub(super) struct Library {
    pub(super) modules: Vec<Module>,
    /// The files by their number, relative to `src`.
    pub(super) files: Vec<PathBuf>,
}

/// One module: a file, or an inline one within a file.
pub(super) struct Module {
    /// From the crate's root; empty for the root itself.
    pub(super) path: Segments,
    pub(super) parent: Option<usize>,
    pub(super) file: usize,
    pub(super) children: BTreeMap<String, usize>,
    pub(super) items: Vec<Item>,
    pub(super) imports: Vec<Import>,
}

/// What an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Function,
    Type,
    Impl,
    Other,
}

/// An item without its attributes. An `impl` bears its type's name.
pub(super) struct Item {
    pub(super) kind: Kind,
    pub(super) name: String,
    pub(super) tokens: Vec<String>,
}

/// One name that a `use` brings in; `*` for a glob.
pub(super) struct Import {
    pub(super) name: String,
    pub(super) path: Segments,
}

impl Library {
    /// Reads `lib.rs` and every module that it declares; tests are left out.
    pub(super) fn read(src: &Path) -> Self {
        let mut library = Self { modules: Vec::new(), files: Vec::new() };
        let root = library.add(Vec::new(), None, 0);
        library.read_file(src, root, Path::new("lib.rs"), Path::new(""));
        library
    }

    fn add(&mut self, path: Segments, parent: Option<usize>, file: usize) -> usize {
        let (children, items, imports) = (BTreeMap::new(), Vec::new(), Vec::new());
        self.modules.push(Module { path, parent, file, children, items, imports });
        self.modules.len() - 1
    }

    /// `folder`: where the files of the module's children lie.
    fn read_file(&mut self, src: &Path, module: usize, file: &Path, folder: &Path) {
        let text = fs::read_to_string(src.join(file));
        let text = text.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        self.files.push(file.to_owned());
        self.modules[module].file = self.files.len() - 1;
        let mut tokens = Vec::new();
        flatten(text.parse().expect("Rust's tokens"), &mut tokens);
        self.read_items(src, module, &tokens, folder);
    }

    fn read_items(&mut self, src: &Path, module: usize, tokens: &[String], folder: &Path) {
        let (mut rest, mut attributes) = (tokens, String::new());
        while let Some(first) = rest.first() {
            if first == "#" {
                // `#![..]` belongs to the whole file.
                let is_inner = rest[1] == "!";
                let skip = 1 + usize::from(is_inner);
                let (attribute, after) = rest.split_at(skip + group(&rest[skip..]));
                if !is_inner {
                    attributes.push_str(&attribute.join(" "));
                }
                rest = after;
                continue;
            }
            let (item, after) = rest.split_at(item_length(rest));
            rest = after;
            if !attributes.contains("cfg ( test )") {
                self.read_item(src, module, item, &attributes, folder);
            }
            attributes.clear();
        }
    }

    fn read_item(
        &mut self,
        src: &Path,
        module: usize,
        item: &[String],
        attributes: &str,
        folder: &Path,
    ) {
        let item = &item[qualifiers(item)..];
        let name = || item.iter().skip(1).find(|word| *word != "mut").cloned().unwrap_or_default();
        let kind = match item[0].as_str() {
            "mod" => return self.read_module(src, module, item, attributes, folder),
            "use" => {
                let found = imports(&item[1..item.len() - 1]);
                return self.modules[module].imports.extend(found);
            }
            "fn" => Kind::Function,
            "struct" | "enum" | "union" | "trait" | "type" => Kind::Type,
            "impl" => Kind::Impl,
            _ => Kind::Other,
        };
        let name = if kind == Kind::Impl { implemented(item) } else { name() };
        self.modules[module].items.push(Item { kind, name, tokens: item.to_vec() });
    }

    fn read_module(
        &mut self,
        src: &Path,
        parent: usize,
        item: &[String],
        attributes: &str,
        folder: &Path,
    ) {
        let name = item[1].clone();
        let path = [&self.modules[parent].path[..], std::slice::from_ref(&name)].concat();
        let file = self.modules[parent].file;
        // If two modules have one name, one of them is for other platforms.
        let child = match self.modules[parent].children.get(&name) {
            Some(child) => *child,
            None => self.add(path, Some(parent), file),
        };
        self.modules[parent].children.insert(name.clone(), child);
        let own_folder = folder.join(&name);
        if item[2] == ";" {
            self.read_file(src, child, &own_folder.with_extension("rs"), &own_folder);
        } else {
            // The only use of `#[path]`: an inline module whose children lie beside it.
            let beside = attributes.contains("path =");
            let folder = if beside { folder } else { &own_folder };
            self.read_items(src, child, &item[3..item.len() - 1], folder);
        }
    }
}

/// Identifiers, `::`, brackets, numbers and single characters of punctuation. Lifetimes are left
/// out, strings and characters are `""`, a comment of documentation is an attribute.
fn flatten(stream: TokenStream, found: &mut Vec<String>) {
    let mut trees = stream.into_iter().peekable();
    let is_colon =
        |tree: &TokenTree| matches!(tree, TokenTree::Punct(mark) if mark.as_char() == ':');
    while let Some(tree) = trees.next() {
        match tree {
            TokenTree::Group(group) => {
                let (opens, closes) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket | Delimiter::None => ("[", "]"),
                };
                found.push(opens.to_owned());
                flatten(group.stream(), found);
                found.push(closes.to_owned());
            }
            TokenTree::Punct(mark) if mark.as_char() == '\'' => drop(trees.next()),
            TokenTree::Punct(_) if is_colon(&tree) && trees.next_if(is_colon).is_some() => {
                found.push("::".to_owned());
            }
            TokenTree::Literal(literal) => {
                let text = literal.to_string();
                let is_number = text.starts_with(|c: char| c.is_ascii_digit());
                found.push(if is_number { text } else { "\"\"".to_owned() });
            }
            TokenTree::Ident(_) | TokenTree::Punct(_) => found.push(tree.to_string()),
        }
    }
}

/// The length of the group that begins with a bracket.
fn group(tokens: &[String]) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate() {
        match token.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

/// How many tokens stand before the item's own keyword.
fn qualifiers(item: &[String]) -> usize {
    let mut at = 0;
    while let Some(token) = item.get(at) {
        match token.as_str() {
            "pub" | "default" | "async" | "unsafe" => at += 1,
            "(" => at += group(&item[at..]),
            "const" if ["fn", "unsafe", "async", "extern"].contains(&item[at + 1].as_str()) => {
                at += 1;
            }
            "extern" if item[at + 1] == "\"\"" => at += 2,
            _ => break,
        }
    }
    at
}

/// The number of tokens of the item at the beginning.
fn item_length(tokens: &[String]) -> usize {
    let keyword = tokens.get(qualifiers(tokens)).map_or("", String::as_str);
    let ends_with_semicolon = ["use", "const", "static", "type"].contains(&keyword);
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        match token.as_str() {
            ";" => return at + 1,
            "(" | "[" => at += group(&tokens[at..]),
            "{" => {
                at += group(&tokens[at..]);
                if !ends_with_semicolon {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    at
}

/// The name of the type that an `impl` is for.
fn implemented(item: &[String]) -> String {
    let body = item.iter().position(|token| token == "{").unwrap_or(item.len());
    let mut header = &item[1..body];
    if let Some(at) = header.iter().position(|token| token == "where") {
        header = &header[..at];
    }
    if header.first().is_some_and(|token| token == "<") {
        let mut depth = 0;
        let closes = |token: &String| {
            depth += i32::from(token == "<") - i32::from(token == ">");
            depth == 0
        };
        header = &header[header.iter().position(closes).map_or(0, |at| at + 1)..];
    }
    if let Some(at) = header.iter().position(|token| token == "for") {
        header = &header[at + 1..];
    }
    let end = header.iter().position(|token| token == "<").unwrap_or(header.len());
    let is_word = |token: &&String| token.starts_with(|c: char| c.is_alphabetic() || c == '_');
    header[..end].iter().rfind(is_word).cloned().unwrap_or_default()
}

/// The leaves of a `use` tree.
pub(super) fn imports(tree: &[String]) -> Vec<Import> {
    let mut found = Vec::new();
    leaves(tree, &[], &mut found);
    found
}

fn leaves(tree: &[String], before: &[String], found: &mut Vec<Import>) {
    let mut path = before.to_vec();
    let mut at = 0;
    while let Some(token) = tree.get(at) {
        match token.as_str() {
            "::" => {}
            "as" => {
                found.push(Import { name: tree[at + 1].clone(), path });
                return;
            }
            "{" => {
                let inner = &tree[at + 1..at + group(&tree[at..]) - 1];
                for part in split(inner) {
                    leaves(part, &path, found);
                }
                return;
            }
            "self" if !path.is_empty() => {}
            _ => path.push(token.clone()),
        }
        at += 1;
    }
    if let Some(name) = path.last().cloned() {
        found.push(Import { name, path });
    }
}

/// The parts between commas outside every bracket.
pub(super) fn split(tokens: &[String]) -> Vec<&[String]> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0);
    for (at, token) in tokens.iter().enumerate() {
        match token.as_str() {
            "(" | "[" | "{" | "<" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            ">" if at > 0 && tokens[at - 1] != "-" => depth -= 1,
            "," if depth == 0 => {
                parts.push(&tokens[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&tokens[start..]);
    parts
}

/// The parameters of all functions in an item, `self` among them.
pub(super) fn parameters(item: &[String]) -> Vec<&[String]> {
    let mut found = Vec::new();
    for at in (0..item.len()).filter(|at| item[*at] == "fn") {
        // Generics may hold brackets of their own.
        let mut depth = 0;
        let opens = item[at..].iter().position(|token| {
            depth += i32::from(token == "<") - i32::from(token == ">");
            depth == 0 && token == "("
        });
        let Some(start) = opens.map(|opens| at + opens) else { continue };
        found.extend(split(&item[start + 1..start + group(&item[start..]) - 1]));
    }
    found
}
