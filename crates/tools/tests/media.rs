//! `read` of pictures, PDFs and notebooks, and `notebook_edit`.

use aedile_core::tool::Sight;
use aedile_tools::ToolBox;
use image::{DynamicImage, ImageFormat};
use lopdf::content::{Content, Operation};
use lopdf::{Document, EncryptionState, EncryptionVersion, Object, Permissions, Stream, dictionary};
use serde_json::{Value, json};
use std::io::Cursor;

use crate::support::Bench;

fn encoded(width: u32, height: u32, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Vec::new();
    DynamicImage::new_rgb8(width, height).write_to(&mut Cursor::new(&mut bytes), format).unwrap();
    bytes
}

#[tokio::test]
async fn pictures_are_shown_and_large_ones_made_smaller() {
    let bench = Bench::new();
    for (name, format) in
        [("a.png", ImageFormat::Png), ("b.jpg", ImageFormat::Jpeg), ("c.gif", ImageFormat::Gif), ("d.webp", ImageFormat::WebP)]
    {
        bench.put(name, encoded(30, 20, format));
        let output = bench.call("read", json!({"path": name})).await;
        assert!(
            !output.is_error && output.text.starts_with(&format!("{name}: {}, 30 x 20 pixels", format.to_mime_type())),
            "{}",
            output.text
        );
        assert_eq!((output.media.len(), output.media[0].media_type.as_str()), (1, format.to_mime_type()));
        assert_eq!(output.media[0].name.as_deref(), Some(name));
    }
    bench.put("wide", encoded(2500, 500, ImageFormat::Png));
    let output = bench.call("read", json!({"path": "wide"})).await;
    assert!(output.text.ends_with("shown as 2000 x 400"), "{}", output.text);
    assert_eq!(output.media[0].media_type, "image/png");
}

#[tokio::test]
async fn a_picture_that_would_break_the_conversation_is_refused() {
    let mut bench = Bench::new();
    let mut cut = encoded(30, 20, ImageFormat::Png);
    cut.truncate(40);
    bench.put("cut.png", cut);
    bench.put("bomb.png", encoded(20_001, 1, ImageFormat::Png));
    bench.put("huge.png", [encoded(3, 2, ImageFormat::Png), vec![0; 21 * 1024 * 1024]].concat());
    bench.put("a.png", encoded(3, 2, ImageFormat::Png));
    assert!(bench.err("read", json!({"path": "cut.png"})).await.contains("broken or too large"));
    assert!(bench.err("read", json!({"path": "bomb.png"})).await.contains("broken or too large"));
    assert!(bench.err("read", json!({"path": "huge.png"})).await.contains("at most 20 MiB are"));
    bench.tools = ToolBox { sees: Sight::new(false, false) }.tools(bench.directory.path(), &[], None);
    assert!(bench.err("read", json!({"path": "a.png"})).await.contains("which this model does not take"));
}

/// A PDF whose pages hold these texts; an empty one holds only a line.
fn pdf(pages: &[&[u8]], compressed: bool) -> Vec<u8> {
    let mut document = Document::with_version("1.5");
    let root = document.new_object_id();
    let font = document.add_object(dictionary! {"Type" => "Font", "Subtype" => "Type1", "BaseFont" => "Courier"});
    let resources = document.add_object(dictionary! {"Font" => dictionary! {"F1" => font}});
    let mut kids: Vec<Object> = Vec::new();
    for text in pages {
        let show = [
            Operation::new("BT", vec![]),
            Operation::new("Tf", vec!["F1".into(), 12.into()]),
            Operation::new("Tj", vec![Object::string_literal(*text)]),
            Operation::new("ET", vec![]),
        ];
        let operations = if text.is_empty() { vec![Operation::new("S", vec![])] } else { show.to_vec() };
        let content = document.add_object(Stream::new(dictionary! {}, Content { operations }.encode().unwrap()));
        kids.push(document.add_object(dictionary! {"Type" => "Page", "Parent" => root, "Contents" => content}).into());
    }
    let count = i64::try_from(kids.len()).unwrap();
    let tree = dictionary! {"Type" => "Pages", "Kids" => kids, "Count" => count, "Resources" => resources};
    document.objects.insert(root, Object::Dictionary(tree));
    let catalog = document.add_object(dictionary! {"Type" => "Catalog", "Pages" => root});
    document.trailer.set("Root", catalog);
    if compressed {
        document.compress();
    }
    let mut bytes = Vec::new();
    document.save_to(&mut bytes).unwrap();
    bytes
}

#[tokio::test]
async fn a_pdf_is_a_document_or_the_text_of_its_pages() {
    let mut bench = Bench::new();
    bench.put("a.pdf", pdf(&[b"First words", b"", b"Third words"], true));
    let output = bench.call("read", json!({"path": "a.pdf"})).await;
    assert!(output.text.starts_with("a.pdf: a PDF of 3 pages") && output.media[0].is_pdf(), "{}", output.text);
    let text = bench.ok("read", json!({"path": "a.pdf", "pages": "2-3"})).await;
    assert_eq!(
        text,
        "--- page 2 ---\n\n--- page 3 ---\nThird words\n[no text on page 2: it may be a picture]\n[a.pdf has 3 pages; others are shown with `pages`]\n"
    );
    for (pages, part) in [("4", "there are 3 pages"), ("3-2", "must look like"), ("x", "must look like"), ("0", "must look like")] {
        assert!(bench.err("read", json!({"path": "a.pdf", "pages": pages})).await.contains(part), "{pages}");
    }
    bench.tools = ToolBox { sees: Sight::new(true, false) }.tools(bench.directory.path(), &[], None);
    assert!(bench.ok("read", json!({"path": "a.pdf"})).await.starts_with("--- page 1 ---\nFirst words\n"));
    let words: Vec<String> = (1..=40).map(|page| format!("page {page} {}", "word ".repeat(300))).collect();
    bench.put("long.pdf", pdf(&words.iter().map(String::as_bytes).collect::<Vec<_>>(), false));
    let text = bench.ok("read", json!({"path": "long.pdf"})).await;
    assert!(text.len() < 31_000 && text.contains("go on with `pages`"), "{}", text.len());
}

#[tokio::test]
async fn a_pdf_that_cannot_be_read_is_explained() {
    let bench = Bench::new();
    bench.put("none.pdf", pdf(&[], false));
    bench.put("cut.pdf", &pdf(&[b"words"], false)[..100]);
    bench.put("word.pdf", b"%PDF-1.7\n");
    bench.put("bomb.pdf", pdf(&[&vec![b'x'; 17 * 1024 * 1024]], true));
    assert!(bench.err("read", json!({"path": "none.pdf"})).await.contains("a PDF without pages"));
    for name in ["cut.pdf", "word.pdf"] {
        let said = bench.err("read", json!({"path": name})).await;
        assert!(said.contains("is not a PDF that can be read") || said.contains("without pages"), "{said}");
    }
    assert!(
        bench
            .ok("read", json!({"path": "bomb.pdf", "pages": "1"}))
            .await
            .contains("[page 1 holds compressed data of more than 16 MiB and is not read]")
    );
}

/// A PDF of one page that opens with this password.
fn encrypted(password: &str) -> Vec<u8> {
    let mut document = Document::load_mem(&pdf(&[b"Within the lock"], false)).unwrap();
    document.trailer.set("ID", vec![Object::string_literal("0123456789abcdef"), Object::string_literal("0123456789abcdef")]);
    let version = EncryptionVersion::V2 {
        document: &document,
        owner_password: "owner",
        user_password: password,
        key_length: 128,
        permissions: Permissions::all(),
    };
    let state = EncryptionState::try_from(version).unwrap();
    document.encrypt(&state).unwrap();
    let mut bytes = Vec::new();
    document.save_to(&mut bytes).unwrap();
    bytes
}

#[tokio::test]
async fn an_encrypted_pdf_is_named_as_such_unless_it_opens_without_a_password() {
    let bench = Bench::new();
    bench.put("locked.pdf", encrypted("secret"));
    for input in [json!({"path": "locked.pdf"}), json!({"path": "locked.pdf", "pages": "1"})] {
        let said = bench.err("read", input).await;
        assert_eq!(said, "locked.pdf is encrypted and needs a password; decrypt it with `bash` first");
    }
    // Many programs encrypt with an empty password, only to forbid printing.
    bench.put("open.pdf", encrypted(""));
    assert!(!std::fs::read(bench.directory.path().join("open.pdf")).unwrap().windows(6).any(|piece| piece == b"Within"), "it is encrypted");
    let text = bench.ok("read", json!({"path": "open.pdf", "pages": "1"})).await;
    assert!(text.contains("Within the lock"), "{text}");
}

/// As Jupyter writes it, with things in it that a rewrite would change.
const NOTEBOOK: &str = "{\n \"cells\": [\n  {\n   \"cell_type\": \"markdown\",\n   \"id\": \"intro\",\n   \"metadata\": {\"x\": 1.50},\n   \"source\": [\n    \"# Title\\n\",\n    \"\\u00e4\"\n   ]\n  },\n  {\n   \"cell_type\": \"code\",\n   \"execution_count\": 3,\n   \"id\": \"run\",\n   \"metadata\": {},\n   \"outputs\": [\n    {\"name\": \"stdout\", \"output_type\": \"stream\", \"text\": [\"a\\n\", \"b\\n\"]},\n    {\"output_type\": \"display_data\", \"data\": {\"image/png\": \"AAAA\", \"text/plain\": \"<Figure>\"}, \"metadata\": {}},\n    {\"output_type\": \"error\", \"ename\": \"E\", \"evalue\": \"v\", \"traceback\": [\"\\u001b[0;31mE\\u001b[0m: v\"]}\n   ],\n   \"source\": \"print('a')\"\n  }\n ],\n \"metadata\": {},\n \"nbformat\": 4,\n \"nbformat_minor\": 5\n}\n";

#[tokio::test]
async fn a_notebook_is_read_cell_by_cell() {
    let bench = Bench::new();
    bench.put("n.ipynb", NOTEBOOK);
    let text = bench.ok("read", json!({"path": "n.ipynb"})).await;
    assert_eq!(
        text,
        "=== cell 1 (markdown, id intro) ===\n# Title\nä\n=== cell 2 (code, id run) ===\nprint('a')\n--- output ---\na\nb\n--- output ---\n<Figure>\n[image/png, 4 bytes]\n--- output ---\nE: v\nE: v\n"
    );
    let text = bench.ok("read", json!({"path": "n.ipynb", "limit": 1})).await;
    assert!(text.ends_with("[cells 1 to 1 of 2 are shown; go on with offset 2]"), "{text}");
    assert!(bench.err("read", json!({"path": "n.ipynb", "offset": 3})).await.contains("only 2 cells"));
    bench.put("long.ipynb", NOTEBOOK.replace("a\\n", &"x".repeat(9000)));
    let text = bench.ok("read", json!({"path": "long.ipynb"})).await;
    assert!(text.contains("bytes cut ...]") && text.len() < 4000, "{}", text.len());
}

#[tokio::test]
async fn a_cell_is_changed_and_every_other_byte_stays() {
    let bench = Bench::new();
    bench.put("n.ipynb", NOTEBOOK);
    let edit = async |input: Value| bench.ok("notebook_edit", input).await;
    edit(json!({"path": "n.ipynb", "action": "replace", "cell": 1, "source": "# New\nline\n"})).await;
    let first = NOTEBOOK.replace("    \"# Title\\n\",\n    \"\\u00e4\"\n", "    \"# New\\n\",\n    \"line\\n\"\n");
    assert_eq!(bench.get("n.ipynb"), first);
    edit(json!({"path": "n.ipynb", "action": "replace", "cell": "run", "source": "1 + 1"})).await;
    let (head, rest) = first.split_once("\"outputs\": [").unwrap();
    let tail = rest.split_once("   ],\n").unwrap().1.replace("print('a')", "1 + 1");
    let second = format!("{}\"outputs\": [],\n{tail}", head.replace("\"execution_count\": 3", "\"execution_count\": null"));
    assert_eq!(bench.get("n.ipynb"), second);
    assert!(
        edit(json!({"path": "n.ipynb", "action": "insert", "cell": 2, "source": "x = 1\ny = 2"})).await.contains("inserted cell 3 (code)")
    );
    let added = "  },\n  {\n   \"cell_type\": \"code\",\n   \"execution_count\": null,\n   \"id\": \"cell-3\",\n   \"metadata\": {},\n   \"outputs\": [],\n   \"source\": [\n    \"x = 1\\n\",\n    \"y = 2\"\n   ]\n  }\n ],\n";
    assert_eq!(bench.get("n.ipynb"), second.replace("  }\n ],\n", added));
    edit(json!({"path": "n.ipynb", "action": "delete", "cell": 3})).await;
    assert_eq!(bench.get("n.ipynb"), second);
    edit(json!({"path": "n.ipynb", "action": "insert", "cell": 0, "cell_type": "markdown", "source": ""})).await;
    edit(json!({"path": "n.ipynb", "action": "delete", "cell": 1})).await;
    assert_eq!(bench.get("n.ipynb"), second);
    edit(json!({"path": "n.ipynb", "action": "delete", "cell": 1})).await;
    edit(json!({"path": "n.ipynb", "action": "delete", "cell": 1})).await;
    assert_eq!(bench.ok("read", json!({"path": "n.ipynb"})).await, "[n.ipynb has no cells]");
    bench.put("flat.ipynb", r#"{"nbformat":4,"nbformat_minor":4,"cells":[{"cell_type":"raw","metadata":{},"source":"a"}]}"#);
    edit(json!({"path": "flat.ipynb", "action": "insert", "cell": 1, "cell_type": "markdown", "source": "b\nc"})).await;
    assert_eq!(
        bench.get("flat.ipynb"),
        r#"{"nbformat":4,"nbformat_minor":4,"cells":[{"cell_type":"raw","metadata":{},"source":"a"},{"cell_type":"markdown","metadata":{},"source":["b\n","c"]}]}"#
    );
}

#[tokio::test]
async fn a_malformed_notebook_is_refused_and_stays() {
    let bench = Bench::new();
    for (content, part) in [
        ("{\"cells\": [", "not a notebook that can be read"),
        ("{\"cells\": [1], \"nbformat\": 4}", "cell 1 is not an object"),
        ("{\"worksheets\": [], \"cells\": [], \"nbformat\": 3}", "a notebook of format 3"),
        ("{}", "not a notebook that can be read"),
    ] {
        bench.put("n.ipynb", content);
        assert!(bench.err("read", json!({"path": "n.ipynb"})).await.contains(part), "{content}");
        let edit = json!({"path": "n.ipynb", "action": "insert", "cell": 0, "source": "x"});
        assert!(bench.err("notebook_edit", edit).await.contains(part), "{content}");
        assert_eq!(bench.get("n.ipynb"), content);
    }
    bench.put("n.ipynb", NOTEBOOK);
    for (input, part) in [
        (json!({"action": "replace", "cell": 9, "source": "x"}), "has no cell 9; it has 2 cells"),
        (json!({"action": "replace", "cell": 1}), "`source` is missing"),
        (json!({"action": "move", "cell": 1}), "`action` must be"),
        (json!({"action": "insert", "cell": 1, "source": "x", "cell_type": "c"}), "`cell_type` must be"),
        (json!({"action": "delete"}), "`cell` is missing"),
    ] {
        let mut input = input;
        input["path"] = json!("n.ipynb");
        assert!(bench.err("notebook_edit", input).await.contains(part), "{part}");
    }
    assert_eq!(bench.get("n.ipynb"), NOTEBOOK);
}
