#include "library/signatures.h"

#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "cli/terminal.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;
using base::SignatureCheck;

/// Public keys of that id in the folder of the file: what a stranger offers, not what anybody trusts.
std::vector<TrustedKey> keys_beside(const fs::path& file, const base::KeyId& id) {
  std::vector<TrustedKey> keys;
  std::error_code absent;
  const fs::path folder = file.has_parent_path() ? file.parent_path() : fs::path(".");
  for (const auto& item : fs::directory_iterator(folder, absent)) {
    if (item.path().extension() != ".pub") continue;
    try {
      const base::PublicKey key = base::read_public_key(item.path());
      if (key.id == id) keys.push_back({item.path().string(), key});
    } catch (const base::Error&) {  // some other file of that name
    }
  }
  std::ranges::sort(keys, {}, &TrustedKey::name);
  return keys;
}

/// A stranger chose the name of the file that a key lies in.
std::string name_for(const TrustedKey& key) {
  const std::string stem = fs::path(key.name).stem().string();
  const bool plain = base::to_printable(stem) == stem && !stem.starts_with('.');
  return plain ? stem : base::to_string(key.key.id);
}

std::string why_bad(SignatureCheck check, const std::string& key_id) {
  if (check == SignatureCheck::wrong_comment)
    return "its trusted comment is not the one that key " + key_id + " signed";
  return "it is not key " + key_id + "'s signature over this content";
}

}  // namespace

std::string_view to_string(SignatureState state) {
  switch (state) {
    case SignatureState::none: return "none";
    case SignatureState::valid: return "valid";
    case SignatureState::unknown_key: return "unknown_key";
    case SignatureState::bad: return "bad";
  }
  return {};
}

format::Json to_json(const SignatureReport& report) {
  auto json = format::Json::object({{"state", to_string(report.state)}, {"file", report.file}});
  if (!report.key_id.empty()) json.set("key_id", report.key_id);
  if (report.state == SignatureState::valid) {
    json.set("trusted_as", report.trusted_as);
    json.set("comment", report.comment);
  }
  return json;
}

std::string to_sentence(const SignatureReport& report) {
  if (report.state == SignatureState::none)
    return report.file + " is not signed: nothing outside pins what it says";
  std::string comment = report.comment;
  std::ranges::replace(comment, '\t', ' ');  // minisign's own comments have them
  return report.file + " is signed by key " + report.key_id + ", trusted as " + report.trusted_as + ": " +
         base::to_printable(comment);
}

fs::path signature_path(const fs::path& file) { return file.string() + ".minisig"; }

std::optional<std::string> named_signer(const fs::path& file) {
  const fs::path path = signature_path(file);
  std::error_code absent;
  if (!fs::is_regular_file(path, absent)) return std::nullopt;
  const std::string text = base::read_text_file(path, base::kSignatureFileBytesMax);
  return base::to_string(base::parse_signature(text, path.string()).key_id);
}

SignatureJudge::SignatureJudge(const std::string& key, Console& console) : console_(console) {
  if (!key.empty()) key_ = TrustedKey{"--key", find_key(key)};
}

SignatureReport SignatureJudge::judge(const fs::path& file, base::Bytes content) {
  const fs::path path = signature_path(file);
  std::error_code absent;
  if (!fs::exists(path, absent)) {
    SignatureReport report;
    report.file = file.string();
    if (!key_) return report;
    refuse(std::move(report), SignatureState::none,
           "is not signed: there is no " + path.filename().string() + " beside it, and --key asks for one");
  }
  const std::string text = base::read_text_file(path, base::kSignatureFileBytesMax);
  base::Signature signature;
  try {
    signature = base::parse_signature(text, path.string());
  } catch (const base::Error& error) {
    refuse({SignatureState::bad, file.string(), "", "", ""}, SignatureState::bad,
           "has a bad signature: " + std::string(error.what()));
  }
  SignatureReport report = judge_signature(signature, file, content);
  console_.event(format::Json::object({{"event", "signature"}, {"signature", to_json(report)}}));
  return report;
}

SignatureReport SignatureJudge::judge_signature(const base::Signature& signature, const fs::path& file,
                                                base::Bytes content) {
  SignatureReport report{SignatureState::valid, file.string(), base::to_string(signature.key_id), "",
                         signature.trusted_comment};
  const auto believed = key_ ? std::vector{*key_} : list_trusted_keys(console_);
  std::optional<SignatureCheck> wrong;
  // Ids are chosen, so two trusted keys may share one; either of them counts.
  for (const TrustedKey& trusted : believed) {
    const SignatureCheck check = check_signature(signature, trusted.key, content);
    if (check == SignatureCheck::valid) {
      report.trusted_as = trusted.name;
      return report;
    }
    if (check != SignatureCheck::other_key) wrong = check;
  }
  if (wrong)
    refuse(std::move(report), SignatureState::bad, "has a bad signature: " + why_bad(*wrong, report.key_id));
  if (key_) {
    refuse(std::move(report), SignatureState::unknown_key,
           "is signed by key " + report.key_id + ", not by " + base::to_string(key_->key.id) +
               ", which --key asks for");
  }
  if (const auto accepted = offer(signature, file, content)) {
    report.trusted_as = accepted->name;
    return report;
  }
  const auto beside = keys_beside(file, signature.key_id);
  refuse(
      std::move(report), SignatureState::unknown_key,
      "is signed by key " + report.key_id +
          ", which you do not trust. Get the key from its owner, by another way than this file; then `sluice "
          "trust " +
          (beside.empty() ? std::string("KEY.pub") : base::to_printable(beside.front().name)) +
          "` keeps it, and --key KEY.pub trusts it once");
}

std::optional<TrustedKey> SignatureJudge::offer(const base::Signature& signature, const fs::path& file,
                                                base::Bytes content) {
  if (!can_ask(console_)) return std::nullopt;
  for (const TrustedKey& key : keys_beside(file, signature.key_id)) {
    if (check_signature(signature, key.key, content) != SignatureCheck::valid) continue;
    console_.clear_status();
    console_.note(file.string() + " is signed by a key that you do not trust:\n" + describe_key(key.key) +
                  "\nThe key lies beside what it signed, in " + base::to_printable(key.name) +
                  ": whoever made the one could make the other.\n"
                  "Compare it with what its owner publishes elsewhere.");
    if (!ask_yes_no("Trust it from now on?")) continue;
    const auto kept = add_trusted_key(name_for(key), key.key);
    return TrustedKey{kept.filename().string(), key.key};
  }
  return std::nullopt;
}

void SignatureJudge::refuse(SignatureReport report, SignatureState state, const std::string& why) {
  report.state = state;
  console_.clear_status();
  console_.event(format::Json::object({{"event", "signature"}, {"signature", to_json(report)}}));
  throw base::Error(base::ErrorKind::untrusted, report.file + ": " + why);
}

}  // namespace sluice::cli
