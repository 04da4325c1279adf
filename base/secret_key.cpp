// Secret keys in minisign's file format (signature.h has the layout of the record). Everything secret lies in
// SecretBytes or SecretRecord, which wipe themselves; error messages never contain bytes of a record.
//
// The functions keep no state and may be called by several threads at once.

#include <sodium.h>

#include <algorithm>

#include "base/base64.h"
#include "base/error.h"
#include "base/invariant.h"
#include "base/signature.h"
#include "base/signature_lines.h"
#include "base/sodium.h"
#include "base/text.h"

namespace sluice::base {
namespace {

// The record: algorithm 2, key derivation 2, checksum algorithm 2, salt 32, operations 8, memory 8; then the
// secret part: key id 8, seed 32, public key 32, checksum 32.
constexpr std::size_t kRecordBytes = 158;
constexpr std::size_t kKdfOffset = 2;
constexpr std::size_t kSaltOffset = 6;
constexpr std::size_t kSecretOffset = 54;  // where the part begins that a password locks
constexpr std::size_t kSecretBytes = kRecordBytes - kSecretOffset;
constexpr std::string_view kScrypt = "Sc";
constexpr std::string_view kNoPassword{"\0\0", 2};
constexpr std::string_view kChecksumAlgorithm = "B2";
// A key file says itself what its password costs. These limits, four times the memory and 256 times the
// operations of minisign's default, keep a file of somebody else from taking the machine down.
constexpr std::uint64_t kMemoryBytesMax = std::uint64_t{4} << 30;
constexpr std::uint64_t kOperationsMax = std::uint64_t{1} << 33;

using Salt = std::array<std::byte, 32>;
static_assert(sizeof(Salt) == crypto_pwhash_scryptsalsa208sha256_SALTBYTES);
using Checksum = SecretBytes<32>;

unsigned char* raw(std::byte* bytes) { return reinterpret_cast<unsigned char*>(bytes); }
const unsigned char* raw(const std::byte* bytes) { return reinterpret_cast<const unsigned char*>(bytes); }

/// A key's record, which is wiped when it is no longer needed.
struct SecretRecord {
  std::vector<std::byte> bytes;

  explicit SecretRecord(std::vector<std::byte> record = {}) : bytes(std::move(record)) {
    bytes.reserve(kRecordBytes);  // a vector that grows leaves copies of its content in memory
  }
  ~SecretRecord() { wipe(bytes); }
  SecretRecord(const SecretRecord&) = delete;
  SecretRecord& operator=(const SecretRecord&) = delete;
  SecretRecord(SecretRecord&&) = default;
  SecretRecord& operator=(SecretRecord&&) = delete;

  [[nodiscard]] MutableBytes secret() { return MutableBytes(bytes).subspan(kSecretOffset); }
  [[nodiscard]] bool locked() const {
    return as_text(Bytes(bytes).subspan(kKdfOffset, kScrypt.size())) == kScrypt;
  }
};

/// XORs `secret` with the key stream that scrypt derives from the password: this locks it, and unlocks it
/// again.
void apply_password(std::string_view password, const Salt& salt, const PasswordCost& cost,
                    MutableBytes secret) {
  prepare_sodium();
  SecretBytes<kSecretBytes> stream;
  if (crypto_pwhash_scryptsalsa208sha256(raw(stream.bytes.data()), stream.bytes.size(), password.data(),
                                         password.size(), raw(salt.data()), cost.operations,
                                         cost.memory_bytes) != 0) {
    throw Error(ErrorKind::io, "the password needs up to " + to_human_bytes(cost.memory_bytes) +
                                   " of memory to be tried, which the system does not give");
  }
  for (std::size_t i = 0; i < secret.size(); ++i) secret[i] ^= stream.bytes[i];
}

// The checksum finds a wrong password. It is itself inside the locked part, so that it says nothing about the
// seed to whoever does not have the password.
Checksum checksum_of(Bytes secret) {
  SecretRecord message;
  append(message.bytes, as_bytes(kKeyAlgorithm));
  append(message.bytes, secret.first(kSecretBytes - Checksum().bytes.size()));
  Checksum checksum;
  prepare_sodium();
  INVARIANT(crypto_generichash(raw(checksum.bytes.data()), checksum.bytes.size(), raw(message.bytes.data()),
                               message.bytes.size(), nullptr, 0) == 0);
  return checksum;
}

SecretRecord decode(std::string_view text, std::string_view subject) {
  const auto lines = split_lines(text, 2, subject);
  static_cast<void>(comment_of(lines[0], 1, kUntrustedComment, subject));
  SecretRecord record(record_of(lines[1], 2, kRecordBytes, subject));
  require_mark(record.bytes, 0, kKeyAlgorithm, "algorithm", subject);
  if (as_text(Bytes(record.bytes).subspan(kKdfOffset, 2)) != kNoPassword)
    require_mark(record.bytes, kKdfOffset, kScrypt, "key derivation", subject);
  require_mark(record.bytes, 4, kChecksumAlgorithm, "checksum algorithm", subject);
  return record;
}

void unlock(SecretRecord& record, std::string_view password, std::string_view subject) {
  RecordReader reader(record.bytes);
  reader.skip(kSaltOffset);
  Salt salt;
  reader.read(salt);
  PasswordCost cost;
  cost.operations = reader.read_uint();
  cost.memory_bytes = reader.read_uint();
  if (cost.memory_bytes > kMemoryBytesMax || cost.operations > kOperationsMax) {
    throw_malformed(subject, "asks for " + std::to_string(cost.operations) + " operations and " +
                                 to_human_bytes(cost.memory_bytes) + " of memory, expected at most " +
                                 std::to_string(kOperationsMax) + " and " + to_human_bytes(kMemoryBytesMax));
  }
  apply_password(password, salt, cost, record.secret());
}

}  // namespace

SecretKey new_secret_key() {
  SecretKey key;
  fill_random(key.id.bytes);
  fill_random(key.seed.bytes);
  return key;
}

bool is_locked(std::string_view key_text, std::string_view subject) {
  return decode(key_text, subject).locked();
}

SecretKey parse_secret_key(std::string_view text, std::string_view subject, std::string_view password) {
  SecretRecord record = decode(text, subject);
  const bool locked = record.locked();
  if (locked) unlock(record, password, subject);
  RecordReader reader(record.secret());
  SecretKey key;
  reader.read(key.id.bytes);
  reader.read(key.seed.bytes);
  Ed25519PublicKey public_half;
  reader.read(public_half.bytes);
  Checksum checksum;
  reader.read(checksum.bytes);
  // minisign 0.11 writes a checksum of zeros when the key has no password.
  const bool has_checksum = locked || !all_zero(checksum.bytes);
  // With a wrong password the whole secret part is noise, which looks the same as damage.
  if (has_checksum && checksum.bytes != checksum_of(record.secret()).bytes)
    throw_malformed(subject, locked ? "the password is wrong, or the file is damaged"
                                    : "is damaged: its checksum does not fit");
  // A key without checksum is verified by this alone.
  if (ed25519_public_key(key.seed) != public_half)
    throw_malformed(subject, "is damaged: the public half does not belong to the secret one");
  return key;
}

std::string to_text(const SecretKey& key, std::string_view password, const PasswordCost& cost) {
  const bool locked = !password.empty();
  Salt salt{};
  std::array<std::byte, 16> limits{};
  if (locked) {
    // A new salt each time: with the salt and password of an older file, both would be XORed with the same
    // key stream, and their difference would be the difference of the keys.
    fill_random(salt);
    store_le(limits, 0, cost.operations);
    store_le(limits, 8, cost.memory_bytes);
  }
  SecretRecord record;
  append(record.bytes, as_bytes(kKeyAlgorithm));
  append(record.bytes, as_bytes(locked ? kScrypt : kNoPassword));
  append(record.bytes, as_bytes(kChecksumAlgorithm));
  append(record.bytes, salt);
  append(record.bytes, limits);
  append(record.bytes, key.id.bytes);
  append(record.bytes, key.seed.bytes);
  append(record.bytes, key.public_key().key.bytes);
  // The checksum covers the fields above, so its place is filled last, and the password is applied after
  // that.
  record.bytes.resize(kRecordBytes);
  std::ranges::copy(checksum_of(record.secret()).bytes, record.secret().last<32>().begin());
  if (locked) apply_password(password, salt, cost, record.secret());
  return std::string(kUntrustedComment) + "minisign encrypted secret key\n" + to_base64(record.bytes) + '\n';
}

}  // namespace sluice::base
