#pragma once
// Signed files, in the file formats of minisign (jedisct1.github.io/minisign): keys and detached signatures
// that Debian's `minisign` reads and writes too.
//
//   public key   untrusted comment: <text>
//                base64("Ed", key id [8], Ed25519 key [32])
//   secret key   untrusted comment: <text>
//                base64("Ed", "Sc" or 0 0, "B2", salt [32], operations, bytes of memory [u64 each],
//                       {key id [8], seed [32], public key [32], checksum [32]})
//                with "Sc" the part in braces is XORed with scrypt(password, salt) (RFC 7914); the checksum
//                is BLAKE2b-256 over "Ed", key id, seed and public key. Without password it may be zero.
//   signature    untrusted comment: <text>
//                base64("ED" or "Ed", key id [8], Ed25519 signature [64])
//                trusted comment: <text>
//                base64(Ed25519 signature [64] over the signature above and the trusted comment)
//                "ED" signs the BLAKE2b-512 digest of the content, "Ed" (older) the content itself.
//
// Lines end with LF or CR LF, the last one also with the file. Damage is Error{malformed}: "SUBJECT: ...".
// All functions may be called by several threads at once.

#include <compare>
#include <filesystem>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/ed25519.h"

namespace sluice::base {

/// 64 random bits that tell keys apart. They are chosen, not derived: equal ids do not make equal keys.
struct KeyId {
  std::array<std::byte, 8> bytes{};

  auto operator<=>(const KeyId&) const = default;
};

/// As minisign shows it: one hexadecimal number, upper case.
[[nodiscard]] std::string to_string(const KeyId& id);

struct PublicKey {
  KeyId id;
  Ed25519PublicKey key;

  auto operator<=>(const PublicKey&) const = default;
};

/// The key file, or its second line alone.
[[nodiscard]] PublicKey parse_public_key(std::string_view text, std::string_view subject);
[[nodiscard]] PublicKey read_public_key(const std::filesystem::path& path);
/// The whole key in one line of 56 characters.
[[nodiscard]] std::string to_line(const PublicKey& key);
[[nodiscard]] std::string to_text(const PublicKey& key);

struct SecretKey {
  KeyId id;
  Ed25519Seed seed;

  [[nodiscard]] PublicKey public_key() const { return {id, ed25519_public_key(seed)}; }
};

/// What a guess at the password costs.
struct PasswordCost {
  std::uint64_t operations = 1u << 25;    // minisign's "sensitive":
  std::uint64_t memory_bytes = 1u << 30;  // 1 GiB, some seconds
};

[[nodiscard]] SecretKey new_secret_key();
/// True when the key file is locked with a password.
[[nodiscard]] bool is_locked(std::string_view key_text, std::string_view subject);
/// `password` is not looked at unless the file is locked. A wrong one is Error{malformed}.
[[nodiscard]] SecretKey parse_secret_key(std::string_view text, std::string_view subject,
                                         std::string_view password);
/// An empty password: not locked.
[[nodiscard]] std::string to_text(const SecretKey& key, std::string_view password,
                                  const PasswordCost& cost = {});

struct Signature {
  std::string untrusted_comment;
  bool prehashed = true;  ///< "ED"
  KeyId key_id;
  Ed25519Signature content;  ///< over the content or its BLAKE2b-512
  std::string trusted_comment;
  Ed25519Signature comment;  ///< over `content` and the trusted comment
};

constexpr std::uint64_t kSignatureFileBytesMax = 16384;
constexpr std::size_t kTrustedCommentBytesMax = 4096;

[[nodiscard]] Signature parse_signature(std::string_view text, std::string_view subject);
[[nodiscard]] std::string to_text(const Signature& signature);

/// An "ED" signature. The trusted comment is one line of at most kTrustedCommentBytesMax.
[[nodiscard]] Signature sign(const Blake2b512& content_hash, const SecretKey& key,
                             std::string_view trusted_comment);

enum class SignatureCheck : std::uint8_t {
  valid,
  other_key,      ///< the signature names another key
  wrong_content,  ///< not made by this key over this content
  wrong_comment,  ///< it was, but the trusted comment is not the one that was signed
};

[[nodiscard]] SignatureCheck check_signature(const Signature& signature, const PublicKey& key, Bytes content);

}  // namespace sluice::base
