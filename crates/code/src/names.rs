//! What a file declares and which names it uses, told from the syntax tree.

use std::collections::HashMap;

use tree_sitter::{Node, TreeCursor};

/// Nodes deeper than this are not looked into.
const DEPTH_MAX: usize = 400;
/// Bytes of a name that tell it from others.
const NAME_BYTES_MAX: usize = 400;

/// Declarations that stand more than once in one place: the names around it with its own, and how many there are beyond the first.
pub type Doubles = HashMap<String, usize>;

/// A text with its syntax tree.
#[derive(Debug, Clone, Copy)]
pub struct Parsed<'a> {
    /// The text.
    pub text: &'a [u8],
    /// Its tree.
    pub tree: &'a tree_sitter::Tree,
}

impl<'a> Parsed<'a> {
    /// Whether it has no error.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        !self.tree.root_node().has_error()
    }

    /// Finds what is declared more than once in one block; nothing in a text with an error.
    #[must_use]
    pub fn doubles(&self) -> Doubles {
        let mut found = Finder { text: self.text, doubles: Doubles::new() };
        if self.is_sound() {
            let mut top = HashMap::new();
            found.walk(self.tree.root_node(), "", 0, &mut top);
            found.close("", top);
        }
        found.doubles
    }

    /// Finds the names that are used and imported.
    #[must_use]
    pub fn uses(&self) -> Uses<'a> {
        let mut uses = Uses::default();
        let mut cursor = self.tree.walk();
        let mut import_until = 0;
        loop {
            let node = cursor.node();
            let kind = node.kind();
            if node.start_byte() >= import_until && is_import(kind) {
                import_until = node.end_byte();
                bound(node, self.text, &mut uses.imported);
            }
            if node.start_byte() >= import_until && node.child_count() == 0 && (kind.ends_with("identifier") || kind == ";") {
                *uses.code.entry(&self.text[node.byte_range()]).or_default() += 1;
            }
            if !next(&mut cursor) {
                return uses;
            }
        }
    }
}

/// Where something stands in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Among members, items, keys, arms or imports, of which each stands for itself.
    List,
    /// Anywhere else: among statements, in a text.
    Ordered,
}

/// Where the bytes of a parsed text stand; none where the text has an error.
#[must_use]
pub fn place(tree: &tree_sitter::Tree, text: &[u8], range: std::ops::Range<usize>) -> Option<Place> {
    if tree.root_node().has_error() {
        return None;
    }
    let inner = text.get(range.clone())?;
    let start = range.start + inner.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    let end = range.end - inner.iter().rev().take_while(|byte| byte.is_ascii_whitespace()).count();
    let mut node = tree.root_node().descendant_for_byte_range(start, end.max(start))?;
    // What fills the range alone is an item itself; around it is where it stands.
    while node.start_byte() >= start && node.end_byte() <= end {
        node = node.parent()?;
    }
    Some(if is_list(node.kind()) { Place::List } else { Place::Ordered })
}

fn is_list(kind: &str) -> bool {
    matches!(
        kind,
        // Whole files.
        "source_file" | "program" | "module" | "translation_unit"
        // Members.
        | "field_declaration_list" | "ordered_field_declaration_list" | "declaration_list" | "enum_variant_list" | "class_body" | "interface_body"
        | "object_type" | "enum_body" | "enum_body_declarations" | "enumerator_list" | "annotation_type_body" | "interface_type" | "enum_class_body"
        // Items of values.
        | "array" | "array_expression" | "list" | "set" | "dictionary" | "object" | "literal_value" | "field_initializer_list" | "array_initializer"
        | "initializer_list" | "token_tree" | "match_block" | "struct_type"
        // Imports.
        | "use_list" | "named_imports" | "import_spec_list" | "export_clause" | "const_declaration" | "var_spec_list" | "import_list"
        // Data.
        | "document" | "block_mapping" | "block_sequence" | "flow_sequence" | "flow_mapping" | "table" | "inline_table" | "rule_set" | "stylesheet"
    )
}

/// The names of a text, each with how often it stands.
pub type Counts<'a> = HashMap<&'a [u8], usize>;

/// Which names a text uses and which it brings in.
#[derive(Debug, Default)]
pub struct Uses<'a> {
    /// Names in the code, comments, literals and imports apart, and the sign that ends statements.
    pub code: Counts<'a>,
    /// Names that imports bind.
    pub imported: Counts<'a>,
}

fn is_import(kind: &str) -> bool {
    matches!(
        kind,
        "use_declaration" | "import_statement" | "import_from_statement" | "import_declaration" | "import_spec" | "import_header"
    )
}

/// The names that an import binds: the last of each path, or what it is called instead. What brings in everything binds none that is known.
fn bound<'a>(import: Node<'_>, text: &'a [u8], names: &mut Counts<'a>) {
    if import.kind() == "import_spec" {
        let Some(path) = import.child_by_field_name("path").filter(|_| import.child_by_field_name("name").is_none()) else { return };
        let path = text[path.byte_range()].trim_ascii();
        let path = path.strip_prefix(b"\"").and_then(|path| path.strip_suffix(b"\"")).unwrap_or(path);
        let last = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
        // A package may be called otherwise than its directory, as where that is a version or holds signs.
        if last.iter().all(|byte| byte.is_ascii_lowercase() || *byte == b'_') {
            *names.entry(last).or_default() += 1;
        }
        return;
    }
    let mut cursor = import.walk();
    let end = import.end_byte();
    loop {
        let node = cursor.node();
        if node.child_count() == 0 && node.kind().ends_with("identifier") {
            let follows = text.get(node.end_byte()..end).unwrap_or_default().trim_ascii_start();
            let goes_on = [&b"::"[..], b".", b"as ", b"as\n"].iter().any(|sign| follows.starts_with(sign));
            let name = &text[node.byte_range()];
            if !goes_on && name.len() > 1 {
                *names.entry(name).or_default() += 1;
            }
        }
        if !next(&mut cursor) || cursor.node().start_byte() >= end {
            return;
        }
    }
}

/// Goes to the next node, children first.
fn next(cursor: &mut TreeCursor<'_>) -> bool {
    if cursor.goto_first_child() || cursor.goto_next_sibling() {
        return true;
    }
    while cursor.goto_parent() {
        if cursor.goto_next_sibling() {
            return true;
        }
    }
    false
}

struct Finder<'a> {
    text: &'a [u8],
    doubles: Doubles,
}

impl Finder<'_> {
    /// Looks through a node; `here` counts what is declared in the block around it.
    fn walk(&mut self, node: Node<'_>, around: &str, depth: usize, here: &mut HashMap<String, usize>) {
        if depth > DEPTH_MAX {
            return;
        }
        let own = name_of(node, self.text);
        if let Some(own) = &own {
            *here.entry(own.clone()).or_default() += 1;
        }
        // What has a name, or braces, keeps what is in it apart.
        let apart =
            own.is_some() || node.child(0).is_some_and(|child| matches!(child.kind(), "{" | "[" | "(")) || node.kind().ends_with("block");
        let inside = own.map_or_else(|| around.to_owned(), |own| format!("{around}/{own}"));
        let mut its = HashMap::new();
        let mut cursor = node.walk();
        for child in node.children(&mut cursor) {
            self.walk(child, &inside, depth + 1, if apart { &mut its } else { here });
        }
        self.close(&inside, its);
    }

    fn close(&mut self, around: &str, names: HashMap<String, usize>) {
        for (name, count) in names.into_iter().filter(|(_, count)| *count > 1) {
            *self.doubles.entry(format!("{around}/{name}")).or_default() += count - 1;
        }
    }
}

/// Kind and name of a node that declares something which may stand once in its block.
fn name_of(node: Node<'_>, text: &[u8]) -> Option<String> {
    let kind = node.kind();
    let field = match kind {
        "pair" | "keyed_element" | "block_mapping_pair" | "flow_pair" => "key",
        "field_initializer" => "field",
        "match_arm" => "pattern",
        "enum_variant" | "enum_constant" | "method_signature" | "property_signature" | "public_field_definition" => "name",
        // A name that a language lets be declared again is none.
        "parameter_declaration"
        | "variable_declaration"
        | "lexical_declaration"
        | "let_declaration"
        | "short_var_declaration"
        | "namespace_definition"
        | "package_declaration"
        | "import_declaration"
        | "const_declaration"
        | "var_declaration" => return None,
        _ if ["_declaration", "_definition", "_item", "_spec"].iter().any(|end| kind.ends_with(end)) => "name",
        _ => return None,
    };
    let name = node.child_by_field_name(field).or_else(|| (field == "key").then(|| node.child(0)).flatten())?;
    let mut own = format!("{kind} {}", solid(name, text));
    for more in ["parameters", "receiver", "type_parameters"] {
        if let Some(part) = node.child_by_field_name(more) {
            own.push_str(&solid(part, text));
        }
    }
    // A declaration under a condition is another one.
    let mut before = node.prev_sibling();
    while let Some(sibling) = before.filter(|sibling| matches!(sibling.kind(), "attribute_item" | "decorator")) {
        own.push_str(&solid(sibling, text));
        before = sibling.prev_sibling();
    }
    Some(own)
}

fn solid(node: Node<'_>, text: &[u8]) -> String {
    let bytes: Vec<u8> = text[node.byte_range()].iter().copied().filter(|byte| !byte.is_ascii_whitespace()).take(NAME_BYTES_MAX).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}
