#pragma once
// Whether to believe a manifest, a checksum list, a torrent or a container: by the signature beside it
// (FILE.minisig) and the keys that the user trusts.

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/signature.h"
#include "cli/console.h"
#include "format/json.h"
#include "library/trusted_keys.h"

namespace sluice::cli {

enum class SignatureState : std::uint8_t { none, valid, unknown_key, bad };

/// "none", "valid", "unknown_key", "bad", as in JSON.
[[nodiscard]] std::string_view to_string(SignatureState state);

struct SignatureReport {
  SignatureState state = SignatureState::none;
  std::string file;        ///< that is signed, or could be
  std::string key_id;      ///< empty without signature
  std::string trusted_as;  ///< the trusted key's file, or "--key"; only when valid
  std::string comment;     ///< the trusted comment; only when valid
};

[[nodiscard]] format::Json to_json(const SignatureReport& report);
/// One sentence for people.
[[nodiscard]] std::string to_sentence(const SignatureReport& report);

[[nodiscard]] std::filesystem::path signature_path(const std::filesystem::path& file);

/// The id of the key that FILE.minisig names; nothing when there is no such file. To check the signature the
/// whole file has to be read. Error{malformed} when it is no signature.
[[nodiscard]] std::optional<std::string> named_signer(const std::filesystem::path& file);

class SignatureJudge final {
 public:
  /// `key`: the only key that counts, as find_key takes it; empty: the trusted ones.
  SignatureJudge(const std::string& key, Console& console);

  /// Judges FILE.minisig over the content of FILE. Returns `valid`, or `none` when there is no such file and
  /// no key was asked for; everything else is Error{untrusted}, and an event before it. On a terminal a
  /// person may be asked to trust an unknown key that lies beside the file.
  [[nodiscard]] SignatureReport judge(const std::filesystem::path& file, base::Bytes content);

  [[nodiscard]] bool has_key() const { return key_.has_value(); }

 private:
  [[nodiscard]] SignatureReport judge_signature(const base::Signature& signature,
                                                const std::filesystem::path& file, base::Bytes content);
  [[nodiscard]] std::optional<TrustedKey> offer(const base::Signature& signature,
                                                const std::filesystem::path& file, base::Bytes content);
  [[noreturn]] void refuse(SignatureReport report, SignatureState state, const std::string& why);

  Console& console_;
  std::optional<TrustedKey> key_;
};

}  // namespace sluice::cli
