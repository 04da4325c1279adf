// Public keys and signatures in minisign's formats (signature.h has them as a grammar). Text is parsed
// strictly, so that one signature has one representation; every Error names the subject that the caller
// gives, usually the file's path.
//
// The functions keep no state and may be called by several threads at once.

#include "base/signature.h"

#include <cstdio>

#include "base/base64.h"
#include "base/error.h"
#include "base/file.h"
#include "base/hasher.h"
#include "base/invariant.h"
#include "base/signature_lines.h"
#include "base/text.h"

namespace sluice::base {
namespace {

constexpr std::size_t kPublicKeyBytes = 2 + 8 + 32;
constexpr std::size_t kSignatureBytes = 2 + 8 + 64;
constexpr std::size_t kSecretKeyRecordBytes = 158;  // base/secret_key.cpp
constexpr std::string_view kTrustedComment = "trusted comment: ";
constexpr std::string_view kPrehashed = "ED";
constexpr std::uint64_t kKeyFileBytesMax = 16384;

/// The message of the second signature. It covers the first one, so that nobody can move a comment to another
/// signature.
std::vector<std::byte> commented(const Ed25519Signature& content, std::string_view trusted_comment) {
  std::vector<std::byte> message;
  append(message, content.bytes);
  append(message, as_bytes(trusted_comment));
  return message;
}

}  // namespace

std::string to_string(const KeyId& id) {
  char text[17];
  // minisign takes the eight bytes as one little-endian number and leaves out leading zeros.
  std::snprintf(text, sizeof text, "%llX", static_cast<unsigned long long>(load_le<std::uint64_t>(id.bytes)));
  return text;
}

namespace {

/// The record of a secret key is longer than that of a public one and begins with the same algorithm.
bool looks_like_secret_key(std::string_view text) {
  const auto end = text.find('\n');
  if (end == std::string_view::npos) return false;
  std::string_view line = text.substr(end + 1);
  line = line.substr(0, line.find_first_of("\r\n"));
  const auto record = parse_base64(line);
  return record && record->size() == kSecretKeyRecordBytes;
}

}  // namespace

PublicKey parse_public_key(std::string_view text, std::string_view subject) {
  const bool alone = !text.starts_with(kUntrustedComment);
  // The two kinds of files look alike, and are easily mistaken for each other.
  if (!alone && looks_like_secret_key(text))
    throw_malformed(subject, "is a secret key; give the public one, which ends in .pub");
  const auto lines = split_lines(text, alone ? 1 : 2, subject);
  const auto record = record_of(lines.back(), lines.size(), kPublicKeyBytes, subject);
  require_mark(record, 0, kKeyAlgorithm, "algorithm", subject);
  RecordReader reader(record);
  reader.skip(kKeyAlgorithm.size());
  PublicKey key;
  reader.read(key.id.bytes);
  reader.read(key.key.bytes);
  return key;
}

PublicKey read_public_key(const std::filesystem::path& path) {
  return parse_public_key(read_text_file(path, kKeyFileBytesMax), path.string());
}

std::string to_line(const PublicKey& key) {
  std::vector<std::byte> record;
  append(record, as_bytes(kKeyAlgorithm));
  append(record, key.id.bytes);
  append(record, key.key.bytes);
  return to_base64(record);
}

std::string to_text(const PublicKey& key) {
  return std::string(kUntrustedComment) + "minisign public key " + to_string(key.id) + '\n' + to_line(key) +
         '\n';
}

Signature parse_signature(std::string_view text, std::string_view subject) {
  const auto lines = split_lines(text, 4, subject);
  Signature signature;
  signature.untrusted_comment = comment_of(lines[0], 1, kUntrustedComment, subject);
  const auto record = record_of(lines[1], 2, kSignatureBytes, subject);
  // New signatures are made over the BLAKE2b-512 digest ("ED"). Older ones cover the content itself ("Ed"),
  // which then has to be in memory as a whole.
  signature.prehashed = as_text(record).starts_with(kPrehashed);
  if (!signature.prehashed) require_mark(record, 0, kKeyAlgorithm, "algorithm", subject);
  RecordReader reader(record);
  reader.skip(kKeyAlgorithm.size());
  reader.read(signature.key_id.bytes);
  reader.read(signature.content.bytes);
  signature.trusted_comment = comment_of(lines[2], 3, kTrustedComment, subject);
  RecordReader(record_of(lines[3], 4, signature.comment.bytes.size(), subject)).read(signature.comment.bytes);
  return signature;
}

std::string to_text(const Signature& signature) {
  std::vector<std::byte> record;
  append(record, as_bytes(signature.prehashed ? kPrehashed : kKeyAlgorithm));
  append(record, signature.key_id.bytes);
  append(record, signature.content.bytes);
  return std::string(kUntrustedComment) + signature.untrusted_comment + '\n' + to_base64(record) + '\n' +
         std::string(kTrustedComment) + signature.trusted_comment + '\n' +
         to_base64(signature.comment.bytes) + '\n';
}

Signature sign(const Blake2b512& content_hash, const SecretKey& key, std::string_view trusted_comment) {
  INVARIANT(trusted_comment.size() <= kTrustedCommentBytesMax);
  // A line end in the comment would begin another line of the file, and the signature could not be read back.
  INVARIANT(trusted_comment.find_first_of("\r\n") == std::string_view::npos);
  Signature signature;
  signature.untrusted_comment = "signature from minisign secret key";
  signature.key_id = key.id;
  signature.content = ed25519_sign(key.seed, content_hash.bytes);
  signature.trusted_comment = trusted_comment;
  signature.comment = ed25519_sign(key.seed, commented(signature.content, trusted_comment));
  return signature;
}

SignatureCheck check_signature(const Signature& signature, const PublicKey& key, Bytes content) {
  // The id only finds the key. Anybody can make a key with this id, so it proves nothing by itself.
  if (signature.key_id != key.id) return SignatureCheck::other_key;
  const bool right = signature.prehashed
                         ? ed25519_verify(key.key, hash<Blake2b512>(content).bytes, signature.content)
                         : ed25519_verify(key.key, content, signature.content);
  if (!right) return SignatureCheck::wrong_content;
  // Only after the content: the comment of a signature that does not fit its content must not be believed.
  const auto comment = commented(signature.content, signature.trusted_comment);
  return ed25519_verify(key.key, comment, signature.comment) ? SignatureCheck::valid
                                                             : SignatureCheck::wrong_comment;
}

}  // namespace sluice::base
