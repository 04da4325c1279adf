#include <chrono>
#include <optional>

#include "base/error.h"
#include "base/invariant.h"
#include "base/text.h"
#include "runtime/generate/sampler.h"
#include "runtime/runtime.h"
#include "text/text.h"

namespace sluice::runtime {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Turns pieces into text: holds bytes back until a UTF-8 character is whole, and replaces what can never
/// become one by U+FFFD.
class Utf8Joiner {
 public:
  std::string add(std::string_view bytes) {
    pending_ += bytes;
    return take(/*at_end=*/false);
  }
  std::string finish() { return take(/*at_end=*/true); }

 private:
  std::string take(bool at_end) {
    std::string text;
    while (!pending_.empty()) {
      const int length = base::utf8_length(pending_);
      if (length < 0 && !at_end) break;
      if (length > 0) {
        text += pending_.substr(0, static_cast<std::size_t>(length));
        pending_.erase(0, static_cast<std::size_t>(length));
      } else {
        text += "\uFFFD";
        pending_.erase(0, 1);
      }
    }
    return text;
  }

  std::string pending_;
};

}  // namespace

std::string_view to_string(StopReason reason) {
  switch (reason) {
    case StopReason::eos: return "eos";
    case StopReason::length: return "length";
    case StopReason::interrupt: return "interrupt";
    case StopReason::stop_text: return "stop";
  }
  INVARIANT(!"a StopReason without name");
}

Generation generate(Session& session, const Model& model, std::span<const TokenId> prompt,
                    std::uint64_t tokens_max, const SamplingOptions& sampling,
                    const std::function<void(TokenId, std::string_view)>& on_token,
                    const std::stop_token& stop, std::span<const std::string> stop_texts) {
  const text::Tokenizer& tokenizer = model.tokenizer();
  Generation result;
  Sampler sampler(sampling);
  Utf8Joiner joiner;
  text::StopTexts stops(stop_texts);
  if (tokens_max == 0) return result;
  INVARIANT(session.position() < prompt.size());
  for (const TokenId token : prompt) sampler.accept(token);

  const auto start = Clock::now();
  auto decode_start = start;
  try {
    const auto unseen = prompt.subspan(static_cast<std::size_t>(session.position()));
    std::span<const float> logits = session.feed(unseen);
    result.prefill_tokens_per_s = static_cast<double>(unseen.size()) / seconds_since(start);
    for (std::optional<StopReason> ended; !ended;) {
      const TokenId token = sampler.sample(logits);
      result.ids.push_back(token);
      sampler.accept(token);
      if (result.ids.size() == 1) {
        result.first_token_s = seconds_since(start);
        decode_start = Clock::now();
      }
      if (token == tokenizer.eos()) {
        ended = StopReason::eos;
      } else if (result.ids.size() == tokens_max || session.position() == session.context_tokens()) {
        ended = StopReason::length;
      } else if (stop.stop_requested()) {
        ended = StopReason::interrupt;
      }
      std::string text = stops.add(joiner.add(tokenizer.piece_bytes(token)) + (ended ? joiner.finish() : ""));
      if (stops.found()) ended = StopReason::stop_text;
      if (ended) text += stops.finish();
      result.text += text;
      on_token(token, text);
      if (ended) {
        result.stop = *ended;
      } else {
        logits = session.feed(std::span(&token, 1));
      }
    }
  } catch (const base::Error& error) {
    // Stopped within a feed(): what has been generated so far stands.
    if (error.kind() != base::ErrorKind::interrupted) throw;
    result.stop = StopReason::interrupt;
    result.text += stops.add(joiner.finish());
    result.text += stops.finish();
  }
  if (result.ids.size() > 1)
    result.decode_tokens_per_s = static_cast<double>(result.ids.size() - 1) / seconds_since(decode_start);
  return result;
}

}  // namespace sluice::runtime
