// Saving and loading the keys and values of a prompt. The header has the format.
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
constexpr std::uint32_t kVersion = 2;
constexpr std::size_t kHeadBytes = 104;

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
                               .directory = footer.directory_sha256};
  for (const auto& column : sequence.cache.columns()) identity.position_bytes += column.element_bytes;
  return identity;
}

std::string difference(const PromptCacheIdentity& a, const PromptCacheIdentity& b) {
  if (a.root != b.root || a.directory != b.directory) return "another model";
  if (a.kv != b.kv) return "keys and values as " + std::string(to_string(a.kv));
  return "another instruction set, " + std::string(to_string(a.isa));
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
                                                std::span<const TokenId> tokens) {
  std::vector<std::byte> head(kHeadBytes + tokens.size() * sizeof(TokenId));
  std::ranges::copy(base::as_bytes(kMagic), head.begin());
  base::store_le(head, 8, kVersion);
  base::store_le(head, 12, static_cast<std::uint32_t>(identity.kv));
  base::store_le(head, 16, static_cast<std::uint32_t>(identity.isa));
  put_digest(head, 24, identity.root);
  put_digest(head, 56, identity.directory);
  base::store_le(head, 88, std::uint64_t{tokens.size()});
  base::store_le(head, 96, identity.position_bytes);
  for (std::size_t i = 0; i < tokens.size(); ++i)
    base::store_le(head, kHeadBytes + i * sizeof(TokenId), tokens[i]);
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
  // Lengths come from the file, so sums and products are checked before anything is allocated or read by
  // them.
  const auto each = base::checked_add(position_bytes, sizeof(TokenId));
  const auto all = each ? base::checked_mul(*each, token_count) : std::nullopt;
  if (!all || *all != covered.size() - kHeadBytes) {
    base::throw_malformed(subject, "has " + std::to_string(file.size()) + " bytes, which " +
                                       std::to_string(token_count) + " tokens do not make");
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
                      .position_bytes = position_bytes};
  const auto count = static_cast<std::size_t>(token_count);
  content.tokens.resize(count);
  for (std::size_t i = 0; i < count; ++i)
    content.tokens[i] = base::load_le<TokenId>(file, kHeadBytes + i * sizeof(TokenId));
  content.rows = covered.subspan(kHeadBytes + count * sizeof(TokenId));
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
  const std::size_t count =
      // The last token of the prompt is always fed, because only its logits start the answer. The budget of
      // KV pages may be smaller than the file.
      std::min({static_cast<std::size_t>(shared), prompt.size() - 1,
                static_cast<std::size_t>(s.engine.kv_pool.positions_max())});
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
  append_hashed(encode_prompt_cache_head(identity_of(s), tokens));
  for (const auto& column : s.cache.columns()) for_each_run(s.cache, column, tokens.size(), append_hashed);
  const base::Sha256 digest = hasher.final();
  append(digest.bytes);
  file.place();
}

}  // namespace sluice::runtime
