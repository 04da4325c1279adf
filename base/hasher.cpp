// Hashers over OpenSSL (MD5, SHA-1, SHA-256) and libsodium (BLAKE2b), and hash_each(), which chooses for each
// group of messages the fastest way to hash several at once.

#include "base/hasher.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <sodium.h>

#include <algorithm>
#include <type_traits>

#include "base/invariant.h"
#include "base/paired_hasher.h"
#include "base/sodium.h"
#include "base/wide_sha.h"

namespace sluice::base {

const char* openssl_version() { return OpenSSL_version(OPENSSL_VERSION); }
namespace {

template <typename D>
const EVP_MD* algorithm() {
  if constexpr (std::is_same_v<D, Md5>) return EVP_md5();
  if constexpr (std::is_same_v<D, Sha1>) return EVP_sha1();
  if constexpr (std::is_same_v<D, Sha256>) return EVP_sha256();
}

unsigned char* raw(std::byte* bytes) { return reinterpret_cast<unsigned char*>(bytes); }

/// OpenSSL's state. Its calls fail only for want of memory or of the algorithm itself.
template <typename D>
struct State {
  EVP_MD_CTX* evp = EVP_MD_CTX_new();

  State() {
    INVARIANT(evp != nullptr);
    start();
  }
  ~State() { EVP_MD_CTX_free(evp); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  void start() { INVARIANT(EVP_DigestInit_ex(evp, algorithm<D>(), nullptr) == 1); }
  void update(Bytes bytes) { INVARIANT(EVP_DigestUpdate(evp, bytes.data(), bytes.size()) == 1); }
  void final(D& digest) {
    unsigned length = 0;
    INVARIANT(EVP_DigestFinal_ex(evp, raw(digest.bytes.data()), &length) == 1);
    INVARIANT(length == D::kBytes);
  }
};

/// libsodium's state.
template <>
struct State<Blake2b512> {
  crypto_generichash_state state;

  State() {
    prepare_sodium();
    start();
  }

  void start() { INVARIANT(crypto_generichash_init(&state, nullptr, 0, Blake2b512::kBytes) == 0); }
  void update(Bytes bytes) {
    INVARIANT(crypto_generichash_update(&state, reinterpret_cast<const unsigned char*>(bytes.data()),
                                        bytes.size()) == 0);
  }
  void final(Blake2b512& digest) {
    INVARIANT(crypto_generichash_final(&state, raw(digest.bytes.data()), Blake2b512::kBytes) == 0);
  }
};

}  // namespace

// A class of its own, because the header's `extern template` forbids a specialization of Context
// ([temp.expl.spec]; clang refuses it).
template <typename D>
struct Hasher<D>::Context : State<D> {};

template <typename D>
Hasher<D>::Hasher() : context_(std::make_unique<Context>()) {}
template <typename D>
Hasher<D>::~Hasher() = default;
template <typename D>
Hasher<D>::Hasher(Hasher&&) noexcept = default;
template <typename D>
Hasher<D>& Hasher<D>::operator=(Hasher&&) noexcept = default;

template <typename D>
void Hasher<D>::update(Bytes bytes) {
  context_->update(bytes);
}

template <typename D>
D Hasher<D>::final() {
  D digest;
  context_->final(digest);
  context_->start();
  return digest;
}

// The instances for which hasher.h has `extern template`: OpenSSL and libsodium stay out of the header.
template class Hasher<Md5>;
template class Hasher<Sha1>;
template class Hasher<Sha256>;
template class Hasher<Blake2b512>;

namespace {

/// The number of messages at the beginning that have the same length, at most kWideShaMessages.
std::size_t count_equal_lengths(std::span<const Bytes> messages) {
  std::size_t count = 0;
  while (count < std::min(messages.size(), kWideShaMessages) && messages[count].size() == messages[0].size())
    ++count;
  return count;
}

}  // namespace

void hash_each(std::span<const Bytes> messages, std::span<Sha256> digests) {
  INVARIANT(messages.size() == digests.size());
  // Two hashers serve all messages, because final() resets them; making one allocates nothing where there is
  // a SHA unit.
  PairedHasher<Sha256> a;
  PairedHasher<Sha256> b;
  while (!messages.empty()) {
    std::size_t count = has_wide_sha() ? count_equal_lengths(messages) : 0;
    // The wide code computes sixteen lanes whatever the number of messages, so a few messages are faster in
    // pairs.
    if (count >= kWideShaLeast) {
      hash_wide(messages.first(count), digests.first(count));
    } else if (count = std::min<std::size_t>(messages.size(), 2); count == 2) {
      PairedHasher<Sha256>::update_pair(a, messages[0], b, messages[1]);
      digests[0] = a.final();
      digests[1] = b.final();
    } else {
      a.update(messages[0]);
      digests[0] = a.final();
    }
    messages = messages.subspan(count);
    digests = digests.subspan(count);
  }
}

}  // namespace sluice::base
