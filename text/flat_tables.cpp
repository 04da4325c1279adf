#include "text/flat_tables.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <random>

#include "base/invariant.h"

namespace sluice::text {
namespace {

std::uint64_t process_seed() {
  static const std::uint64_t seed = [] {
    std::random_device device;
    return static_cast<std::uint64_t>(device()) << 32 | device();
  }();
  return seed;
}

std::uint64_t mixed(std::uint64_t hash, std::uint64_t word) {
  hash = (hash ^ word) * 0x9E3779B97F4A7C15U;
  return hash ^ hash >> 29;
}

std::uint64_t hash_of(std::string_view bytes, std::uint64_t seed) {
  std::uint64_t hash = seed ^ bytes.size();
  std::uint64_t word = 0;
  while (bytes.size() >= sizeof(word)) {
    std::memcpy(&word, bytes.data(), sizeof(word));
    hash = mixed(hash, word);
    bytes.remove_prefix(sizeof(word));
  }
  word = 0;
  if (!bytes.empty()) std::memcpy(&word, bytes.data(), bytes.size());
  return mixed(mixed(hash, word), seed);
}

}  // namespace

PieceTable::PieceTable() : seed_(process_seed()), slots_(16) {}

void PieceTable::set(TokenId id, std::string_view bytes) {
  INVARIANT(id >= 0 && id <= kTokenIdMax && !has(id));
  if (static_cast<std::size_t>(id) >= spans_.size()) spans_.resize(static_cast<std::size_t>(id) + 1);
  // The bytes of a file, of which none is longer than kJsonMemoryBytesMax.
  INVARIANT(bytes_.size() + bytes.size() < kNoOffset);
  spans_[static_cast<std::size_t>(id)] = {static_cast<std::uint32_t>(bytes_.size()),
                                          static_cast<std::uint32_t>(bytes.size())};
  bytes_ += bytes;
}

bool PieceTable::index(TokenId id) {
  const std::string_view piece = bytes(id);
  if (find(piece)) return false;
  if (2 * (indexed_ + 1) > slots_.size()) grow();
  insert(id);
  ++indexed_;
  longest_bytes_ = std::max(longest_bytes_, piece.size());
  return true;
}

std::optional<TokenId> PieceTable::find(std::string_view bytes) const {
  if (bytes.size() > longest_bytes_) return std::nullopt;
  const std::uint64_t hash = hash_of(bytes, seed_);
  const auto tag = static_cast<std::uint32_t>(hash);
  for (std::size_t at = (hash >> 32) & (slots_.size() - 1); slots_[at].id >= 0;
       at = (at + 1) & (slots_.size() - 1))
    if (slots_[at].tag == tag && this->bytes(slots_[at].id) == bytes) return slots_[at].id;
  return std::nullopt;
}

std::string_view PieceTable::bytes(TokenId id) const {
  if (!has(id)) return {};
  const Span& span = spans_[static_cast<std::size_t>(id)];
  return std::string_view(bytes_).substr(span.offset, span.length);
}

bool PieceTable::has(TokenId id) const {
  return id >= 0 && static_cast<std::size_t>(id) < spans_.size() &&
         spans_[static_cast<std::size_t>(id)].offset != kNoOffset;
}

void PieceTable::grow() {
  std::vector<Slot> old(2 * slots_.size());
  old.swap(slots_);
  for (const Slot& slot : old)
    if (slot.id >= 0) insert(slot.id);
}

void PieceTable::insert(TokenId id) {
  const std::uint64_t hash = hash_of(bytes(id), seed_);
  std::size_t at = (hash >> 32) & (slots_.size() - 1);
  while (slots_[at].id >= 0) at = (at + 1) & (slots_.size() - 1);
  slots_[at] = {static_cast<std::uint32_t>(hash), id};
}

MergeTable::MergeTable(std::size_t merge_count)
    : seed_(process_seed()), mask_(std::bit_ceil(2 * merge_count + 2) - 1), slots_(mask_ + 1) {}

void MergeTable::set(TokenId left, TokenId right, Merge merge) {
  const std::uint64_t key = key_of(left, right);
  std::size_t at = slot_of(key);
  while (slots_[at].key != key && slots_[at].key != kNoKey) at = (at + 1) & mask_;
  slots_[at] = {key, merge};
}

}  // namespace sluice::text
