#pragma once
// A report says what the signature of a file is worth to the user.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace sluice::library {

enum class SignatureState : std::uint8_t { none, valid, unknown_key, bad };

/// "none", "valid", "unknown_key", "bad", as in JSON.
[[nodiscard]] std::string_view to_string(SignatureState state);

struct SignatureReport {
  SignatureState state = SignatureState::none;
  std::string file;        ///< the file that is signed, or could be
  std::string key_id;      ///< empty without a signature
  std::string trusted_as;  ///< the trusted key's file, or "--key"; only when valid
  std::string comment;     ///< the trusted comment; only when valid
};

/// One sentence for people.
[[nodiscard]] std::string to_sentence(const SignatureReport& report);

/// FILE.minisig.
[[nodiscard]] std::filesystem::path signature_path(const std::filesystem::path& file);

/// The id of the key that FILE.minisig names; nothing when there is no such file. The signature itself is not
/// verified, because that takes reading the whole file. Error{malformed} when FILE.minisig is not a
/// signature.
[[nodiscard]] std::optional<std::string> find_signer(const std::filesystem::path& file);

}  // namespace sluice::library
