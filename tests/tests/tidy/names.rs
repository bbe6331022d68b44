//! Names and openings of doc comments in our Rust sources, held against the glossary.

use std::collections::BTreeMap;

use proc_macro2::{Ident, TokenStream, TokenTree};
use syn::visit::{self, Visit};

use crate::glossary::Glossary;
use crate::tree::{File, Tree};

/// First words of a doc comment that make it a clause without a main verb or subject.
const INVERTED_OPENINGS: [&str; 6] = ["Whom", "Whose", "Who", "Those", "Of", "That"];

/// Keywords that are followed by a name that they define.
const DEFINING: [&str; 10] = [
    "fn", "let", "struct", "enum", "trait", "mod", "const", "static", "type", "union",
];

/// Names that we define with a word of the glossary's "not" column, in product and test code. Names
/// that a trait's implementation must have are counted at the trait, and not at all if the trait is
/// foreign.
pub fn refused_names(tree: &Tree) -> Vec<String> {
    let glossary = glossary(tree);
    let mut found = Vec::new();
    for file in tree.rust() {
        found.extend(refused_path(&glossary, file));
        for name in names(file) {
            found.extend(refusal(&glossary, file, &name));
        }
    }
    found
}

/// Types of the glossary's general names that are defined more than once in product code.
pub fn repeated_types(tree: &Tree) -> Vec<String> {
    let glossary = glossary(tree);
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in tree.rust_code() {
        for name in names(file)
            .into_iter()
            .filter(|name| name.kind == Kind::Type)
        {
            if glossary.one_type_each.contains(&name.text) {
                places
                    .entry(name.text)
                    .or_default()
                    .push(file.at(name.line));
            }
        }
    }
    let repeated = places.into_iter().filter(|(_, places)| places.len() > 1);
    repeated
        .map(|(name, places)| format!("{name}: {}", places.join(", ")))
        .collect()
}

/// Doc comments that open with a relative clause or a genitive.
pub fn inverted_openings(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for file in tree.rust() {
        let mut inside = false;
        for (line, text) in file.text.lines().enumerate() {
            let text = text.trim_start();
            let doc = ["/// ", "//! "]
                .iter()
                .find_map(|mark| text.strip_prefix(mark));
            let first = doc.and_then(|doc| doc.split(|c: char| !c.is_alphanumeric()).next());
            if let (false, Some(word)) = (inside, first)
                && INVERTED_OPENINGS.contains(&word)
            {
                let what = "begin with what it is";
                found.push(format!("{}: `{word} …`: {what}", file.at(line)));
            }
            inside = text.starts_with("///") || text.starts_with("//!");
        }
    }
    found
}

fn glossary(tree: &Tree) -> Glossary {
    let mut files = tree.files.iter();
    let file = files.find(|file| file.path == "CONTRIBUTING.md");
    file.map_or_else(Glossary::default, |file| Glossary::parse(&file.text))
}

fn refusal(glossary: &Glossary, file: &File, name: &Name) -> Option<String> {
    let Name { text, line, kind } = name;
    let at = file.at(*line);
    if let Some((word, better)) = glossary.refused(text) {
        return Some(format!("{at}: `{text}`: not `{word}`, use {better}"));
    }
    let better = glossary.refused_function(text)?;
    (*kind == Kind::Function)
        .then(|| format!("{at}: `{text}`: the verb says from where or how: {better}"))
}

/// The file's name and its folders; the first one is the crate.
fn refused_path(glossary: &Glossary, file: &File) -> Option<String> {
    let path = file.path.trim_end_matches(".rs");
    path.split('/').find_map(|name| {
        let (word, better) = glossary.refused(name)?;
        Some(format!("{}: not `{word}`, use {better}", file.at(0)))
    })
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Function,
    Type,
    Other,
}

/// A name where it is defined.
struct Name {
    text: String,
    line: usize,
    kind: Kind,
}

fn names(file: &File) -> Vec<Name> {
    let parsed = syn::parse_file(&file.text);
    let parsed = parsed.unwrap_or_else(|error| panic!("{}: {error}", file.path));
    let mut names = Names::default();
    names.visit_file(&parsed);
    names.found
}

/// Collects the names that a file defines.
#[derive(Default)]
struct Names {
    found: Vec<Name>,
}

impl Names {
    fn add(&mut self, ident: &Ident, kind: Kind) {
        let text = ident.to_string();
        self.found.push(Name {
            text: text.trim_start_matches("r#").to_owned(),
            line: ident.span().start().line - 1,
            kind,
        });
    }

    /// Bodies of macros are not parsed: a name is what follows a keyword.
    fn add_tokens(&mut self, tokens: TokenStream) {
        let mut keyword = false;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) if keyword && ident == "mut" => continue,
                TokenTree::Ident(ident) if keyword => self.add(&ident, Kind::Other),
                TokenTree::Ident(ident) => {
                    keyword = DEFINING.iter().any(|word| ident == word);
                    continue;
                }
                TokenTree::Group(group) => self.add_tokens(group.stream()),
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
            keyword = false;
        }
    }
}

impl<'ast> Visit<'ast> for Names {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.add(&item.sig.ident, Kind::Function);
        visit::visit_item_fn(self, item);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if item.trait_.is_none() {
            for inner in &item.items {
                match inner {
                    syn::ImplItem::Fn(method) => self.add(&method.sig.ident, Kind::Function),
                    syn::ImplItem::Const(constant) => self.add(&constant.ident, Kind::Other),
                    _ => {}
                }
            }
        }
        visit::visit_item_impl(self, item);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.add(&item.ident, Kind::Type);
        visit::visit_item_trait(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        self.add(&item.sig.ident, Kind::Function);
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_trait_item_type(&mut self, item: &'ast syn::TraitItemType) {
        self.add(&item.ident, Kind::Other);
        visit::visit_trait_item_type(self, item);
    }

    fn visit_trait_item_const(&mut self, item: &'ast syn::TraitItemConst) {
        self.add(&item.ident, Kind::Other);
        visit::visit_trait_item_const(self, item);
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.add(&item.ident, Kind::Type);
        visit::visit_item_struct(self, item);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.add(&item.ident, Kind::Type);
        visit::visit_item_enum(self, item);
    }

    fn visit_variant(&mut self, variant: &'ast syn::Variant) {
        self.add(&variant.ident, Kind::Other);
        visit::visit_variant(self, variant);
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        if let Some(ident) = &field.ident {
            self.add(ident, Kind::Other);
        }
        visit::visit_field(self, field);
    }

    fn visit_item_type(&mut self, item: &'ast syn::ItemType) {
        self.add(&item.ident, Kind::Type);
        visit::visit_item_type(self, item);
    }

    fn visit_item_const(&mut self, item: &'ast syn::ItemConst) {
        self.add(&item.ident, Kind::Other);
        visit::visit_item_const(self, item);
    }

    fn visit_item_static(&mut self, item: &'ast syn::ItemStatic) {
        self.add(&item.ident, Kind::Other);
        visit::visit_item_static(self, item);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.add(&item.ident, Kind::Other);
        visit::visit_item_mod(self, item);
    }

    fn visit_use_rename(&mut self, rename: &'ast syn::UseRename) {
        self.add(&rename.rename, Kind::Other);
    }

    fn visit_type_param(&mut self, param: &'ast syn::TypeParam) {
        self.add(&param.ident, Kind::Other);
        visit::visit_type_param(self, param);
    }

    /// Parameters, `let`, arms of `match`. A capital letter is a constant or a variant in use.
    fn visit_pat_ident(&mut self, pattern: &'ast syn::PatIdent) {
        if pattern.ident.to_string().starts_with(char::is_lowercase) {
            self.add(&pattern.ident, Kind::Other);
        }
        visit::visit_pat_ident(self, pattern);
    }

    fn visit_item_macro(&mut self, item: &'ast syn::ItemMacro) {
        if let Some(ident) = &item.ident {
            self.add(ident, Kind::Other);
        }
        visit::visit_item_macro(self, item);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.add_tokens(call.tokens.clone());
    }
}
