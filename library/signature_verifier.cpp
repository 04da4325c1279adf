// One function decides about a signature, and everything but "valid" and "no signature" ends in refuse(), so
// that no caller can forget to look at the result. An unknown key is never trusted because it lies beside the
// file: a person has to confirm it, and then it is kept like any other trusted key.

#include "library/signature_verifier.h"

#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"

namespace sluice::library {
namespace {

namespace fs = std::filesystem;
using base::SignatureCheck;

/// Public keys with that id in the file's folder. A stranger put them there: none of them is trusted by this.
std::vector<TrustedKey> find_keys_beside(const fs::path& file, const base::KeyId& id) {
  std::vector<TrustedKey> keys;
  std::error_code absent;
  const fs::path folder = file.has_parent_path() ? file.parent_path() : fs::path(".");
  for (const auto& item : fs::directory_iterator(folder, absent)) {
    if (item.path().extension() != ".pub") continue;
    try {
      const base::PublicKey key = base::read_public_key(item.path());
      if (key.id == id) keys.push_back({item.path().string(), key});
    } catch (const base::Error&) {  // a .pub file need not be a key
    }
  }
  std::ranges::sort(keys, {}, &TrustedKey::name);
  return keys;
}

/// The name under which the key is kept. A stranger chose the name of its file, so only a harmless one is
/// taken.
std::string choose_name(const TrustedKey& key) {
  const std::string stem = fs::path(key.name).stem().string();
  const bool plain = base::to_printable(stem) == stem && !stem.starts_with('.');
  return plain ? stem : base::to_string(key.key.id);
}

std::string explain_bad(SignatureCheck check, const std::string& key_id) {
  if (check == SignatureCheck::wrong_comment)
    return "its trusted comment is not the one that key " + key_id + " signed";
  return "it is not key " + key_id + "'s signature over this content";
}

}  // namespace

SignatureVerifier::SignatureVerifier(const std::string& key, const Context& context) : context_(context) {
  if (!key.empty()) key_ = TrustedKey{"--key", find_key(key)};
}

SignatureReport SignatureVerifier::verify(const fs::path& file, base::Bytes content) {
  const fs::path path = signature_path(file);
  std::error_code absent;
  if (!fs::exists(path, absent)) {
    SignatureReport report;
    report.file = file.string();
    // Most releases are not signed, so a missing signature stops nobody who has not asked for a key
    // (docs/decisions/0008).
    if (!key_) return report;
    refuse(std::move(report), SignatureState::none,
           "is not signed: there is no " + path.filename().string() + " beside it, and --key asks for one");
  }
  const std::string text = base::read_text_file(path, base::kSignatureFileBytesMax);
  base::Signature signature;
  try {
    signature = base::parse_signature(text, path.string());
  } catch (const base::Error& error) {
    // A signature file that cannot be parsed counts as a bad signature, never as a missing one.
    refuse({SignatureState::bad, file.string(), "", "", ""}, SignatureState::bad,
           "has a bad signature: " + std::string(error.what()));
  }
  SignatureReport report = verify_signature(signature, file, content);
  context_.observer.on_signature(report);
  return report;
}

SignatureReport SignatureVerifier::verify_signature(const base::Signature& signature, const fs::path& file,
                                                    base::Bytes content) {
  SignatureReport report{SignatureState::valid, file.string(), base::to_string(signature.key_id), "",
                         signature.trusted_comment};
  // --key replaces the trusted keys: who names a key accepts no other.
  const auto believed = key_ ? std::vector{*key_} : list_trusted_keys(context_);
  std::optional<SignatureCheck> wrong;
  // Whoever makes a key chooses its id, so two trusted keys may share one; either of them counts.
  for (const TrustedKey& trusted : believed) {
    const SignatureCheck check = check_signature(signature, trusted.key, content);
    if (check == SignatureCheck::valid) {
      report.trusted_as = trusted.name;
      return report;
    }
    // The search goes on, because another key with the same id may have made the signature.
    if (check != SignatureCheck::other_key) wrong = check;
  }
  if (wrong)
    refuse(std::move(report), SignatureState::bad,
           "has a bad signature: " + explain_bad(*wrong, report.key_id));
  if (key_) {
    refuse(std::move(report), SignatureState::unknown_key,
           "is signed by key " + report.key_id + ", not by " + base::to_string(key_->key.id) +
               ", which --key asks for");
  }
  // Only an unknown key may be offered. A bad signature was refused above, before anybody is asked anything.
  if (const auto accepted = offer_key(signature, file, content)) {
    report.trusted_as = accepted->name;
    return report;
  }
  const auto beside = find_keys_beside(file, signature.key_id);
  refuse(
      std::move(report), SignatureState::unknown_key,
      "is signed by key " + report.key_id +
          ", which you do not trust. Get the key from its owner, by another way than this file; then `sluice "
          "trust " +
          (beside.empty() ? std::string("KEY.pub") : base::to_printable(beside.front().name)) +
          "` keeps it, and --key KEY.pub trusts it once");
}

std::optional<TrustedKey> SignatureVerifier::offer_key(const base::Signature& signature, const fs::path& file,
                                                       base::Bytes content) {
  for (const TrustedKey& key : find_keys_beside(file, signature.key_id)) {
    // A key that did not make this signature would gain trust for nothing.
    if (check_signature(signature, key.key, content) != SignatureCheck::valid) continue;
    std::vector<std::string> explanation = describe_key(key.key);
    explanation.insert(explanation.begin(), file.string() + " is signed by a key that you do not trust:");
    explanation.push_back("The key lies beside the file that it signed, in " + base::to_printable(key.name) +
                          ": whoever made the one could make the other.");
    explanation.emplace_back("Compare it with what its owner publishes elsewhere.");
    const bool accepted = context_.observer.confirm(explanation, "Trust it from now on?");
    if (!accepted) continue;
    // The key is kept first, so that a yes counts only when it could be recorded.
    const auto kept = add_trusted_key(choose_name(key), key.key, context_.folders);
    return TrustedKey{kept.filename().string(), key.key};
  }
  return std::nullopt;
}

void SignatureVerifier::refuse(SignatureReport report, SignatureState state, const std::string& why) {
  // The observer learns of the refusal before the Error leaves, so that --json reports both.
  report.state = state;
  context_.observer.on_signature(report);
  throw base::Error(base::ErrorKind::untrusted, report.file + ": " + why);
}

}  // namespace sluice::library
