// Saving and loading the keys and values of a prompt, and the states of recurrent layers. The header has the
// format.
//
// A cache may only save time. A file that is damaged or belongs to another model gives a warning and is not
// used; one that is used gives the same logits as computing the prompt, because everything that decides the
// bits of keys and values is part of the identity. A file is written to a temporary name and renamed
// (base::AtomicFile), so a killed run leaves the old one.

#include "runtime/generate/prompt_cache.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "base/file.h"
#include "base/hasher.h"
#include "base/invariant.h"
#include "runtime/forward/engine_impl.h"
#include "runtime/kernels/isa.h"

namespace sluice::runtime {
namespace {

constexpr std::string_view kMagic = "SLUICEPC";
// The version covers the arithmetic too: with another activation chunk (format/tile.h), for example, the keys
// and values of the same tokens would differ, and nothing else in the file would tell.
constexpr std::uint32_t kVersion = 3;
constexpr std::size_t kHeadBytes = 120;

void put_digest(std::vector<std::byte>& head, std::size_t offset, const base::Sha256& digest) {
  std::ranges::copy(digest.bytes, head.begin() + static_cast<std::ptrdiff_t>(offset));
}

base::Sha256 get_digest(base::Bytes file, std::size_t offset) {
  base::Sha256 digest;
  std::ranges::copy(file.subspan(offset, base::Sha256::kBytes), digest.bytes.begin());
  return digest;
}

PromptCacheIdentity identity_of(const Sequence::Impl& sequence) {
  const Engine::Impl& engine = sequence.engine;
  const auto& footer = engine.weights.model().container.footer();
  PromptCacheIdentity identity{.kv = engine.kv_pool.type(),
                               .isa = engine.options.isa.value_or(detect_isa()),
                               .root = footer.root,
                               .directory = footer.directory_sha256,
                               .state_bytes = engine.recurrent_pool.state_bytes()};
  for (const auto& column : sequence.cache.columns()) identity.position_bytes += column.element_bytes;
  return identity;
}

std::string difference(const PromptCacheIdentity& a, const PromptCacheIdentity& b) {
  if (a.root != b.root || a.directory != b.directory) return "another model";
  if (a.kv != b.kv) return "keys and values as " + std::string(to_string(a.kv));
  return "another instruction set, " + std::string(to_string(a.isa));
}

/// The bytes of `count` things that have two parts each. Absent when they do not fit 64 bits.
std::optional<std::uint64_t> size_of(std::uint64_t count, std::uint64_t part, std::uint64_t other) {
  const auto each = base::checked_add(part, other);
  return each ? base::checked_mul(*each, count) : std::nullopt;
}

/// Error{malformed} unless they are ascending and within the tokens.
std::vector<std::uint64_t> state_positions(base::Bytes bytes, std::uint64_t count, std::uint64_t token_count,
                                           std::string_view subject) {
  std::vector<std::uint64_t> positions(static_cast<std::size_t>(count));
  std::uint64_t last = 0;
  for (std::size_t i = 0; i < positions.size(); ++i) {
    positions[i] = base::load_le<std::uint64_t>(bytes, i * sizeof(std::uint64_t));
    if (positions[i] <= last || positions[i] > token_count)
      base::throw_malformed(subject, "has a state after " + std::to_string(positions[i]) + " of " +
                                         std::to_string(token_count) + " tokens out of order");
    last = positions[i];
  }
  return positions;
}

/// How many of `count` tokens a sequence can take from the file: all of them, or, where there are recurrent
/// layers, those up to the last state.
std::uint64_t usable_tokens(const PromptCacheContent& content, std::uint64_t count) {
  if (content.identity.state_bytes == 0) return count;
  const auto behind = std::ranges::upper_bound(content.state_positions, count);
  return behind == content.state_positions.begin() ? 0 : *(behind - 1);
}

/// Gives the sequence its state after `count` tokens, and snapshots of the states before it.
void load_states(const PromptCacheContent& content, std::uint64_t count, Sequence::Impl& sequence) {
  const std::uint64_t bytes = content.identity.state_bytes;
  if (bytes == 0 || count == 0) return;
  const auto used = static_cast<std::size_t>(std::ranges::upper_bound(content.state_positions, count) -
                                             content.state_positions.begin());
  const std::size_t kept = std::min<std::size_t>(used, std::max<std::uint64_t>(sequence.snapshots_max, 1));
  for (std::size_t i = used - kept; i < used; ++i) {
    sequence.state = sequence.engine.recurrent_pool.take();
    std::memcpy(sequence.state.data(), content.states.data() + i * bytes, bytes);
    if (sequence.snapshots_max > 0) sequence.keep(content.state_positions[i], sequence.state);
  }
}

/// The states of a sequence that have seen no more than `token_count` tokens.
std::vector<Sequence::Impl::Snapshot> states_of(const Sequence::Impl& sequence, std::uint64_t token_count) {
  std::vector<Sequence::Impl::Snapshot> states;
  for (const auto& snapshot : sequence.snapshots)
    if (snapshot.position <= token_count) states.push_back(snapshot);
  const bool kept = !states.empty() && states.back().position == sequence.position;
  if (sequence.state && sequence.position <= token_count && !kept)
    states.push_back({sequence.position, sequence.state});
  return states;
}

/// Calls visit(bytes) with the elements of a column from position 0 to `count`, page by page.
template <typename F>
void for_each_run(const KvCache& cache, const KvCache::Column& column, std::uint64_t count, F visit) {
  for (std::uint64_t done = 0; done < count; done += kKvPageTokens) {
    const std::uint64_t positions = std::min<std::uint64_t>(kKvPageTokens, count - done);
    visit(cache.elements(column, done).first(positions * column.element_bytes));
  }
}

}  // namespace

bool is_prompt_cache(base::Bytes file) {
  return file.size() >= kMagic.size() && base::as_text(file.first(kMagic.size())) == kMagic;
}

bool is_prompt_cache_file(const std::filesystem::path& path) {
  if (!base::identify(path)) return false;
  const base::File file = base::File::open_read(path);
  std::vector<std::byte> start(kMagic.size());
  start.resize(file.read_at(0, start));
  return is_prompt_cache(base::Bytes(start));
}

std::vector<std::byte> encode_prompt_cache_head(const PromptCacheIdentity& identity,
                                                std::span<const TokenId> tokens,
                                                std::span<const std::uint64_t> state_positions) {
  const std::size_t positions_offset = kHeadBytes + tokens.size() * sizeof(TokenId);
  std::vector<std::byte> head(positions_offset + state_positions.size_bytes());
  std::ranges::copy(base::as_bytes(kMagic), head.begin());
  base::store_le(head, 8, kVersion);
  base::store_le(head, 12, static_cast<std::uint32_t>(identity.kv));
  base::store_le(head, 16, static_cast<std::uint32_t>(identity.isa));
  put_digest(head, 24, identity.root);
  put_digest(head, 56, identity.directory);
  base::store_le(head, 88, std::uint64_t{tokens.size()});
  base::store_le(head, 96, identity.position_bytes);
  base::store_le(head, 104, identity.state_bytes);
  base::store_le(head, 112, std::uint64_t{state_positions.size()});
  for (std::size_t i = 0; i < tokens.size(); ++i)
    base::store_le(head, kHeadBytes + i * sizeof(TokenId), tokens[i]);
  for (std::size_t i = 0; i < state_positions.size(); ++i)
    base::store_le(head, positions_offset + i * sizeof(std::uint64_t), state_positions[i]);
  return head;
}

PromptCacheContent parse_prompt_cache(base::Bytes file, std::string_view subject) {
  if (!is_prompt_cache(file)) base::throw_malformed(subject, "is no prompt cache");
  if (file.size() < kHeadBytes + base::Sha256::kBytes) base::throw_malformed(subject, "is cut");
  if (const auto version = base::load_le<std::uint32_t>(file, 8); version != kVersion)
    base::throw_malformed(
        subject, "has version " + std::to_string(version) + ", expected " + std::to_string(kVersion));
  const base::Bytes covered = file.first(file.size() - base::Sha256::kBytes);
  const auto token_count = base::load_le<std::uint64_t>(file, 88);
  const auto position_bytes = base::load_le<std::uint64_t>(file, 96);
  const auto state_bytes = base::load_le<std::uint64_t>(file, 104);
  const auto state_count = base::load_le<std::uint64_t>(file, 112);
  // Lengths come from the file, so sums and products are checked before anything is allocated or read by
  // them.
  const auto of_tokens = size_of(token_count, sizeof(TokenId), position_bytes);
  const auto of_states = size_of(state_count, sizeof(std::uint64_t), state_bytes);
  const auto all = of_tokens && of_states ? base::checked_add(*of_tokens, *of_states) : std::nullopt;
  if (!all || *all != covered.size() - kHeadBytes) {
    base::throw_malformed(subject, "has " + std::to_string(file.size()) + " bytes, which " +
                                       std::to_string(token_count) + " tokens and " +
                                       std::to_string(state_count) + " states do not make");
  }
  if (base::hash<base::Sha256>(covered) != get_digest(file, covered.size()))
    base::throw_malformed(subject, "does not match its SHA-256");

  PromptCacheContent content;
  const auto kv = base::load_le<std::uint32_t>(file, 12);
  const auto isa = base::load_le<std::uint32_t>(file, 16);
  if (kv > static_cast<std::uint32_t>(KvType::q8) || isa >= kIsas.size() ||
      base::load_le<std::uint32_t>(file, 20) != 0) {
    base::throw_malformed(subject, "has values that no version " + std::to_string(kVersion) + " has");
  }
  content.identity = {.kv = static_cast<KvType>(kv),
                      .isa = static_cast<Isa>(isa),
                      .root = get_digest(file, 24),
                      .directory = get_digest(file, 56),
                      .position_bytes = position_bytes,
                      .state_bytes = state_bytes};
  const auto count = static_cast<std::size_t>(token_count);
  content.tokens.resize(count);
  for (std::size_t i = 0; i < count; ++i)
    content.tokens[i] = base::load_le<TokenId>(file, kHeadBytes + i * sizeof(TokenId));
  std::size_t offset = kHeadBytes + count * sizeof(TokenId);
  content.state_positions = state_positions(covered.subspan(offset), state_count, token_count, subject);
  offset += content.state_positions.size() * sizeof(std::uint64_t);
  content.rows = covered.subspan(offset, count * position_bytes);
  content.states = covered.subspan(offset + content.rows.size());
  return content;
}

PromptCacheUse load_prompt_cache(Session& session, const std::filesystem::path& path,
                                 std::span<const TokenId> prompt) {
  Sequence::Impl& s = session.sequence().impl();
  INVARIANT(s.position == 0 && !prompt.empty());
  PromptCacheUse use;
  const auto state = base::identify(path);
  if (!state || state->size_bytes == 0) return use;
  const auto file = base::MappedFile::open_read(path);
  // The user named a wrong file. It must not be overwritten after the run, so a warning is not enough.
  if (!is_prompt_cache(file.bytes())) base::throw_malformed(path.string(), "is no prompt cache");

  PromptCacheContent content;
  try {
    content = parse_prompt_cache(file.bytes(), path.string());
  } catch (const base::Error& error) {
    use.warning = error.what();
    return use;
  }
  if (const auto wanted = identity_of(s); content.identity != wanted) {
    use.warning = path.string() + ": was made with " + difference(content.identity, wanted);
    return use;
  }
  const auto shared = std::ranges::mismatch(content.tokens, prompt).in2 - prompt.begin();
  use.cached_tokens = static_cast<std::uint64_t>(shared);
  const std::size_t wanted_count =
      // The last token of the prompt is always fed, because only its logits start the answer. The budget of
      // KV pages may be smaller than the file.
      std::min({static_cast<std::size_t>(shared), prompt.size() - 1,
                static_cast<std::size_t>(s.engine.kv_pool.positions_max())});
  const auto count = static_cast<std::size_t>(usable_tokens(content, wanted_count));
  s.cache.reserve(0, count);
  const std::byte* rows = content.rows.data();
  for (const auto& column : s.cache.columns()) {
    const std::byte* from = rows;
    for_each_run(s.cache, column, count, [&](std::span<std::byte> elements) {
      std::memcpy(elements.data(), from, elements.size());
      from += elements.size();
    });
    // A column in the file has all its tokens, also those that this prompt does not share.
    rows += content.tokens.size() * column.element_bytes;
  }
  load_states(content, count, s);
  file.require_whole();
  s.position = use.reused_tokens = count;
  return use;
}

void save_prompt_cache(Session& session, const std::filesystem::path& path, std::span<const TokenId> tokens) {
  const Sequence::Impl& s = session.sequence().impl();
  INVARIANT(tokens.size() <= s.position);
  base::AtomicFile file(path);
  base::Hasher<base::Sha256> hasher;
  std::uint64_t offset_bytes = 0;
  const auto append = [&](base::Bytes bytes) {
    file.file().write_at(offset_bytes, bytes);
    offset_bytes += bytes.size();
  };
  const auto append_hashed = [&](base::Bytes bytes) {
    hasher.update(bytes);
    append(bytes);
  };
  // Hashed while it is written: keys and values may be gigabytes, and are never copied as a whole.
  const auto states = states_of(s, tokens.size());
  std::vector<std::uint64_t> positions;
  for (const auto& state : states) positions.push_back(state.position);
  append_hashed(encode_prompt_cache_head(identity_of(s), tokens, positions));
  for (const auto& column : s.cache.columns()) for_each_run(s.cache, column, tokens.size(), append_hashed);
  for (const auto& state : states)
    append_hashed(
        std::as_bytes(std::span(state.state.data(), s.engine.recurrent_pool.state_bytes() / sizeof(float))));
  const base::Sha256 digest = hasher.final();
  append(digest.bytes);
  file.place();
}

}  // namespace sluice::runtime
