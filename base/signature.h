#pragma once
// Keys and detached signatures in the file formats of minisign (jedisct1.github.io/minisign), which Debian's
// `minisign` reads and writes too.
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
// Lines end with LF or CR LF; the last line may end with the file. Damaged files are Error{malformed}
// "SUBJECT: ...". All functions may be called by several threads at once.

#include <compare>
#include <filesystem>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/ed25519.h"

namespace sluice::base {

/// 64 random bits that name a key. They are not derived from the key: two keys can have the same id.
struct KeyId {
  std::array<std::byte, 8> bytes{};

  auto operator<=>(const KeyId&) const = default;
};

/// One hexadecimal number in upper case, as minisign shows it.
[[nodiscard]] std::string to_string(const KeyId& id);

struct PublicKey {
  KeyId id;
  Ed25519PublicKey key;

  auto operator<=>(const PublicKey&) const = default;
};

/// Reads the text of a key file, or only its second line.
[[nodiscard]] PublicKey parse_public_key(std::string_view text, std::string_view subject);
[[nodiscard]] PublicKey read_public_key(const std::filesystem::path& path);
/// The key in one line of 56 characters: the second line of its file.
[[nodiscard]] std::string to_line(const PublicKey& key);
[[nodiscard]] std::string to_text(const PublicKey& key);

struct SecretKey {
  KeyId id;
  Ed25519Seed seed;

  [[nodiscard]] PublicKey public_key() const { return {id, ed25519_public_key(seed)}; }
};

/// The cost of one guess at a password, as scrypt's limits in libsodium. The default is minisign's
/// "sensitive": 1 GiB of memory and some seconds.
struct PasswordCost {
  std::uint64_t operations = 1u << 25;
  std::uint64_t memory_bytes = 1u << 30;
};

[[nodiscard]] SecretKey new_secret_key();
/// True when the key file is locked with a password.
[[nodiscard]] bool is_locked(std::string_view key_text, std::string_view subject);
/// Ignores `password` unless the file is locked. A wrong password is Error{malformed}.
[[nodiscard]] SecretKey parse_secret_key(std::string_view text, std::string_view subject,
                                         std::string_view password);
/// The text of the key file. An empty password leaves the key unlocked.
[[nodiscard]] std::string to_text(const SecretKey& key, std::string_view password,
                                  const PasswordCost& cost = {});

struct Signature {
  std::string untrusted_comment;
  bool prehashed = true;  ///< algorithm "ED": `content` signs a digest
  KeyId key_id;
  Ed25519Signature content;  ///< over the content or its BLAKE2b-512
  std::string trusted_comment;
  Ed25519Signature comment;  ///< over `content` and the trusted comment
};

constexpr std::uint64_t kSignatureFileBytesMax = 16384;
constexpr std::size_t kTrustedCommentBytesMax = 4096;

[[nodiscard]] Signature parse_signature(std::string_view text, std::string_view subject);
[[nodiscard]] std::string to_text(const Signature& signature);

/// Makes a signature with the algorithm "ED". The trusted comment is one line of at most
/// kTrustedCommentBytesMax.
[[nodiscard]] Signature sign(const Blake2b512& content_hash, const SecretKey& key,
                             std::string_view trusted_comment);

enum class SignatureCheck : std::uint8_t {
  valid,
  other_key,      ///< the signature names another key id
  wrong_content,  ///< this key did not sign this content
  wrong_comment,  ///< this key signed the content, but with another trusted comment
};

[[nodiscard]] SignatureCheck check_signature(const Signature& signature, const PublicKey& key, Bytes content);

}  // namespace sluice::base
