//! Parsers of text.

use niwaki_codes::Scheme;
use niwaki_engine::Recipe;
use niwaki_engine::page::page_of_answer;
use niwaki_engine::signature::signing::PublicKey;

/// The text form of schemes: what is accepted has one spelling, and means it.
pub fn scheme_text(bytes: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(bytes) else { return false };
    match text.parse::<Scheme>() {
        Ok(scheme) => assert_eq!(scheme.to_string().parse(), Ok(scheme), "{text:?} changes its meaning"),
        Err(error) => return refused(&error),
    }
    true
}

/// Recipes: what is accepted has a canonical text that means the same.
pub fn recipe_text(bytes: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(bytes) else { return false };
    let recipe = match Recipe::parse(text) {
        Ok(recipe) => recipe,
        Err(error) => return refused(&error),
    };
    let canonical = recipe.to_string();
    let again = Recipe::parse(&canonical).unwrap_or_else(|e| panic!("our own text {canonical:?}: {e}"));
    assert_eq!(again, recipe, "{text:?} changes its meaning");
    true
}

/// Public keys: one that is accepted finds that nobody has signed these bytes.
pub fn public_key_pem(bytes: &[u8]) -> bool {
    match PublicKey::from_pem(bytes) {
        // R and S of zero: what keys of small order would take for a signature.
        Ok(key) => assert!(!key.verifies(bytes, &[0; 64]), "a key under which zeros sign everything"),
        Err(error) => return refused(&error),
    }
    true
}

/// Answers of verbs: whatever they say is text on the page, which is whole.
pub fn report_answer(bytes: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(bytes) else { return false };
    let page = match page_of_answer(text, text) {
        Ok(page) => page,
        Err(error) => return refused(&error),
    };
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</main>\n</body>\n</html>\n"));
    let opened = |tag: &str| page.matches(tag).count();
    assert_eq!((opened("<script"), opened("<img"), opened("<body>"), opened("</body>")), (0, 0, 1, 1), "{text:?}");
    assert!(!page.contains("NaN\"") && !page.contains("inf\""), "a place that is none: {text:?}");
    true
}

/// An error is one line, whatever the text was.
pub(crate) fn refused(error: &dyn std::error::Error) -> bool {
    let message = error.to_string();
    assert!(!message.is_empty() && !message.contains('\n'), "a message of several lines: {message}");
    false
}
