// Added tokens are cut out of a text first; what lies between two of them is normalized, cut into pieces and
// merged, as if it were a text of its own. Some added tokens are searched before the text is normalized, and
// the others after. Source: tokenizers (Rust) 0.21, tokenizer/added_vocabulary.rs, extract_and_normalize().

#include "text/bpe_tokenizer.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/error.h"
#include "base/invariant.h"
#include "base/text.h"

namespace sluice::text {
namespace {

// Places in a text are counted with 32 bits while it is merged.
constexpr std::size_t kTextBytesMax = std::size_t{1} << 30;

/// Calls found(match) and between(begin, end) for the matches and the parts of a text of `size` bytes that
/// lie between them, in order.
template <typename FoundSink, typename BetweenSink>
void for_each_part(const std::vector<AddedTokenMatch>& matches, std::size_t size, const FoundSink& found,
                   const BetweenSink& between) {
  std::size_t done = 0;
  for (const AddedTokenMatch& match : matches) {
    if (done < match.range.begin) between(done, match.range.begin);
    found(match);
    done = match.range.end;
  }
  if (done < size) between(done, size);
}

/// The parts of `ranges` between `begin` and `end`, counted from `begin`.
std::vector<TextRange> clipped(std::span<const TextRange> ranges, std::size_t begin, std::size_t end) {
  std::vector<TextRange> inside;
  auto range = std::ranges::upper_bound(ranges, begin, {}, &TextRange::end);
  for (; range != ranges.end() && range->begin < end; ++range)
    inside.push_back({std::max(range->begin, begin) - begin, std::min(range->end, end) - begin});
  return inside;
}

class BpeTokenizer final : public Tokenizer {
 public:
  explicit BpeTokenizer(BpeTokenizerParts parts)
      : bpe_(std::move(parts.model)),
        normalizer_(std::move(parts.normalizer)),
        pre_tokenizer_(std::move(parts.pre_tokenizer)),
        shown_as_(std::move(parts.shown_as)),
        controls_(std::move(parts.controls)),
        bos_(parts.bos),
        end_ids_(std::move(parts.end_ids)),
        mistral_chat_(std::move(parts.mistral_chat)),
        size_(bpe_.pieces().size()) {
    INVARIANT(!end_ids_.empty());
    std::vector<AddedTokenRule> normalized;
    std::vector<AddedTokenRule> exact;
    for (AddedTokenRule& rule : parts.added) {
      // The token is normalized like the text in which it is searched, and may be nothing then.
      if (rule.normalized) rule.text = normalizer_.apply({rule.text, {}}).text;
      if (!rule.text.empty()) (rule.normalized ? normalized : exact).push_back(std::move(rule));
    }
    exact_ = AddedTokenFinder(std::move(exact));
    normalized_ = AddedTokenFinder(std::move(normalized));
    for (const auto& [text, id] : controls_) {
      size_ = std::max(size_, static_cast<std::size_t>(id) + 1);
      control_texts_.emplace(id, text);
    }
  }

  std::vector<TokenId> encode(std::string_view text) const override { return encode(text, {}); }

  std::vector<TokenId> encode(std::string_view text, std::span<const TextRange> trusted) const override {
    if (text.size() > kTextBytesMax)
      throw base::Error(base::ErrorKind::usage, "prompt: has " + base::to_human_bytes(text.size()) +
                                                    ", more than the 1 GiB that can be tokenized at once");
    std::vector<TokenId> ids;
    ids.reserve(text.size() / 4);
    for_each_part(
        exact_.find(text, trusted), text.size(),
        [&](const AddedTokenMatch& match) { ids.push_back(match.id); },
        [&](std::size_t begin, std::size_t end) {
          const std::string_view part = text.substr(begin, end - begin);
          // Ranges matter to the tokens that are searched in the normalized text.
          std::vector<TextRange> ranges;
          if (!normalized_.empty()) ranges = clipped(trusted, begin, end);
          if (normalizer_.empty()) return encode_normalized(part, ranges, ids);
          const RangedText normal = normalizer_.apply({std::string(part), std::move(ranges)});
          encode_normalized(normal.text, normal.ranges, ids);
        });
    return ids;
  }

  std::string piece_bytes(TokenId id) const override {
    if (control_texts_.contains(id)) return {};
    std::string bytes(bpe_.pieces().bytes(id));
    const auto& [from, to] = shown_as_;
    if (from.empty()) return bytes;
    for (std::size_t at = 0; (at = bytes.find(from, at)) != std::string::npos; at += to.size())
      bytes.replace(at, from.size(), to);
    return bytes;
  }
  std::size_t size() const override { return size_; }
  std::optional<TokenId> bos() const override { return bos_; }
  const MistralChat* mistral_chat() const override { return mistral_chat_ ? &*mistral_chat_ : nullptr; }
  TokenId eos() const override { return end_ids_.front(); }
  std::span<const TokenId> end_ids() const override { return end_ids_; }
  std::optional<TokenId> control_id(std::string_view piece) const override {
    const auto found = controls_.find(piece);
    return found == controls_.end() ? std::nullopt : std::optional(found->second);
  }
  std::string control_text(TokenId id) const override {
    const auto found = control_texts_.find(id);
    return found == control_texts_.end() ? std::string() : found->second;
  }

 private:
  void encode_normalized(std::string_view text, std::span<const TextRange> trusted,
                         std::vector<TokenId>& ids) const {
    for_each_part(
        normalized_.find(text, trusted), text.size(),
        [&](const AddedTokenMatch& match) { ids.push_back(match.id); },
        [&](std::size_t begin, std::size_t end) {
          pre_tokenizer_.cut(text.substr(begin, end - begin),
                             [&](std::string_view piece) { bpe_.encode(piece, ids); });
        });
  }

  Bpe bpe_;
  Normalizer normalizer_;
  PreTokenizer pre_tokenizer_;
  AddedTokenFinder exact_;       // searched in the text as it is
  AddedTokenFinder normalized_;  // searched in the normalized text
  std::pair<std::string, std::string> shown_as_;
  std::map<std::string, TokenId, std::less<>> controls_;
  std::map<TokenId, std::string> control_texts_;
  std::optional<TokenId> bos_;
  std::vector<TokenId> end_ids_;
  std::optional<MistralChat> mistral_chat_;
  std::size_t size_;
};

}  // namespace

std::unique_ptr<Tokenizer> make_bpe_tokenizer(BpeTokenizerParts parts) {
  return std::make_unique<BpeTokenizer>(std::move(parts));
}

void add_fine_tuned_tokens(BpeTokenizerParts& parts, const std::vector<AddedToken>& added,
                           std::string_view subject) {
  for (const AddedToken& token : added) {
    if (token.id < 0 || token.id > kTokenIdMax)
      base::throw_malformed(subject, "has an added token of the id " + std::to_string(token.id));
    if (parts.model.pieces.has(token.id)) continue;
    parts.model.pieces.set(token.id, token.text);
    if (token.control && !token.text.empty()) parts.controls.emplace(token.text, token.id);
  }
}

std::vector<TokenId> joined_end_ids(std::vector<TokenId> first, std::optional<TokenId> other,
                                    std::string_view subject) {
  if (other) first.push_back(*other);
  std::vector<TokenId> ids;
  for (const TokenId id : first) {
    if (id < 0) base::throw_malformed(subject, "has a negative end id");
    if (std::ranges::find(ids, id) == ids.end()) ids.push_back(id);
  }
  if (ids.empty()) base::throw_malformed(subject, "names neither an EOS nor another id that ends a text");
  return ids;
}

}  // namespace sluice::text
