// Streaming on top of compress() and compress_pair(), which take whole blocks of 64 bytes: bytes that do not
// fill a block wait in partial_block_. A pair first completes the partial blocks of both streams and then
// feeds as many whole blocks as both have; the rest of the longer one follows alone.
//
// Invariant: fed_bytes_ counts all bytes, those in partial_block_ included, so fed_bytes_ % 64 is the number
// of bytes that wait there.

#include "base/paired_hasher.h"

#include <algorithm>
#include <type_traits>

#include "base/invariant.h"
#include "base/wide_sha.h"

namespace sluice::base {
namespace {

std::size_t whole_blocks(Bytes bytes) { return bytes.size() / kShaBlockBytes; }

bool are_faster_wide(std::span<const Bytes> messages) {
  return has_wide_sha() && messages.size() >= kWideShaLeast && messages.size() <= kWideShaMessages &&
         std::ranges::all_of(messages, [&](Bytes message) { return message.size() == messages[0].size(); });
}

}  // namespace

template <typename D>
PairedHasher<D>::PairedHasher(bool use_sha_unit) {
  if (!use_sha_unit) openssl_.emplace();
}

template <typename D>
void PairedHasher<D>::update(Bytes bytes) {
  if (openssl_) {
    openssl_->update(bytes);
    return;
  }
  bytes = fill_partial_block(bytes);
  const std::size_t count = whole_blocks(bytes);
  compress(state_, bytes.data(), count);
  fed_bytes_ += count * kShaBlockBytes;
  keep_rest(bytes.subspan(count * kShaBlockBytes));
}

template <typename D>
void PairedHasher<D>::update_pair(PairedHasher& a, Bytes bytes_of_a, PairedHasher& b, Bytes bytes_of_b) {
  if (!a.openssl_ && !b.openssl_) {
    bytes_of_a = a.fill_partial_block(bytes_of_a);
    bytes_of_b = b.fill_partial_block(bytes_of_b);
    // Both hashers now stand on a block's border, or one of them has no bytes left and the count is 0.
    const std::size_t count = std::min(whole_blocks(bytes_of_a), whole_blocks(bytes_of_b));
    compress_pair(a.state_, bytes_of_a.data(), b.state_, bytes_of_b.data(), count);
    a.fed_bytes_ += count * kShaBlockBytes;
    b.fed_bytes_ += count * kShaBlockBytes;
    bytes_of_a = bytes_of_a.subspan(count * kShaBlockBytes);
    bytes_of_b = bytes_of_b.subspan(count * kShaBlockBytes);
  }
  a.update(bytes_of_a);
  b.update(bytes_of_b);
}

template <typename D>
std::size_t PairedHasher<D>::update_interleaved(Bytes bytes, std::span<const Bytes> messages,
                                                std::span<D> digests) {
  INVARIANT(messages.size() == digests.size());
  if constexpr (std::is_same_v<D, Sha256>) {
    if (!openssl_ && are_faster_wide(messages)) {
      // compress_and_hash() takes exactly this many bytes of the stream, and only from a block's border on.
      const std::size_t share_bytes = kInterleavedBlocks * messages[0].size();
      bytes = bytes.first(std::min(bytes.size(), share_bytes));
      const bool whole_blocks = fed_bytes_ % kShaBlockBytes == 0 && messages[0].size() % kShaBlockBytes == 0;
      if (whole_blocks && bytes.size() == share_bytes) {
        compress_and_hash(state_, bytes, messages, digests);
        fed_bytes_ += bytes.size();
      } else {
        update(bytes);
        hash_wide(messages, digests);
      }
      return bytes.size();
    }
  }
  // Otherwise the stream is paired with one message after the other.
  PairedHasher other(!openssl_);
  std::size_t fed_bytes = 0;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const Bytes part = bytes.subspan(fed_bytes, std::min(bytes.size() - fed_bytes, messages[i].size()));
    update_pair(*this, part, other, messages[i]);
    digests[i] = other.final();
    fed_bytes += part.size();
  }
  return fed_bytes;
}

template <typename D>
D PairedHasher<D>::final() {
  if (openssl_) return openssl_->final();
  const std::size_t partial_bytes = fed_bytes_ % kShaBlockBytes;
  // The length of the message needs 9 bytes with the first bit of the padding, so a rest of more than 55
  // bytes takes a second block.
  std::array<std::byte, 2 * kShaBlockBytes> tail;
  const std::size_t blocks = sha_tail_blocks(partial_bytes);
  write_sha_tail(Bytes(partial_block_).first(partial_bytes), fed_bytes_,
                 MutableBytes(tail).first(blocks * kShaBlockBytes));
  compress(state_, tail.data(), blocks);
  const D digest = to_digest<D>(state_);
  state_ = kShaStart<D>;
  fed_bytes_ = 0;
  return digest;
}

/// Completes the partial block and returns the remaining bytes. When any remain, there is no partial block.
template <typename D>
Bytes PairedHasher<D>::fill_partial_block(Bytes bytes) {
  const std::size_t partial_bytes = fed_bytes_ % kShaBlockBytes;
  if (partial_bytes == 0) return bytes;
  const std::size_t take = std::min(bytes.size(), kShaBlockBytes - partial_bytes);
  std::ranges::copy(bytes.first(take), partial_block_.begin() + static_cast<std::ptrdiff_t>(partial_bytes));
  fed_bytes_ += take;
  if (partial_bytes + take == kShaBlockBytes) compress(state_, partial_block_.data(), 1);
  return bytes.subspan(take);
}

/// Stores the last bytes, less than a block, as the new partial block.
template <typename D>
void PairedHasher<D>::keep_rest(Bytes bytes) {
  if (bytes.empty()) return;
  std::ranges::copy(bytes, partial_block_.begin());
  fed_bytes_ += bytes.size();
}

template class PairedHasher<Sha1>;
template class PairedHasher<Sha256>;

}  // namespace sluice::base
