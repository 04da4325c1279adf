#include "library/signature_report.h"

#include <algorithm>

#include "base/file.h"
#include "base/signature.h"
#include "base/text.h"

namespace sluice::library {

namespace fs = std::filesystem;

std::string_view to_string(SignatureState state) {
  switch (state) {
    case SignatureState::none: return "none";
    case SignatureState::valid: return "valid";
    case SignatureState::unknown_key: return "unknown_key";
    case SignatureState::bad: return "bad";
  }
  return {};
}

std::string to_sentence(const SignatureReport& report) {
  // SignatureVerifier refuses files in the other states with an Error, so only `none` and `valid` come here.
  if (report.state == SignatureState::none)
    return report.file + " is not signed (sluice sign signs a manifest)";
  std::string comment = report.comment;
  // minisign's own comments contain tabs. Everything else that could control a terminal is made printable.
  std::ranges::replace(comment, '\t', ' ');
  return report.file + " is signed by key " + report.key_id + ", trusted as " + report.trusted_as + ": " +
         base::to_printable(comment);
}

fs::path signature_path(const fs::path& file) { return file.string() + ".minisig"; }

std::optional<std::string> find_signer(const fs::path& file) {
  const fs::path path = signature_path(file);
  std::error_code absent;
  if (!fs::is_regular_file(path, absent)) return std::nullopt;
  const std::string text = base::read_text_file(path, base::kSignatureFileBytesMax);
  return base::to_string(base::parse_signature(text, path.string()).key_id);
}

}  // namespace sluice::library
