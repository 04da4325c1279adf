// The loop of decoding: feed the prompt, then sample a token, report it and feed it, until something ends the
// text. The last token is not fed, since nobody needs the logits after it.

#include <chrono>
#include <optional>

#include "base/error.h"
#include "base/invariant.h"
#include "runtime/generate/sampler.h"
#include "runtime/runtime.h"
#include "text/text.h"

namespace sluice::runtime {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

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
  text::TextStream stream(tokenizer, stop_texts);
  if (tokens_max == 0) return result;
  INVARIANT(session.position() < prompt.size());
  // Penalties count the tokens of the whole prompt, also those that the session has already.
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
      // The end of the text wins over the limits: a text that ends with its last allowed token is complete.
      if (tokenizer.is_end(token)) {
        ended = StopReason::eos;
      } else if (result.ids.size() == tokens_max || session.position() == session.context_tokens()) {
        ended = StopReason::length;
      } else if (stop.stop_requested()) {
        ended = StopReason::interrupt;
      }
      // The stream holds text back that may become part of a character or of a stop text; finish() releases
      // it.
      std::string text = stream.add(token);
      if (ended) text += stream.finish();
      if (stream.stopped()) ended = StopReason::stop_text;
      result.text += text;
      on_token(token, text);
      if (ended) {
        result.stop = *ended;
      } else {
        logits = session.feed(std::span(&token, 1));
      }
    }
  } catch (const base::Error& error) {
    // An interrupt ended feed(); the tokens before it are the result, and what the stream still holds back is
    // part of their text. Other errors leave no result.
    if (error.kind() != base::ErrorKind::interrupted) throw;
    result.stop = StopReason::interrupt;
    result.text += stream.finish();
  }
  // The first token's time is that of the prompt, so the rate is that of the tokens after it.
  if (result.ids.size() > 1)
    result.decode_tokens_per_s = static_cast<double>(result.ids.size() - 1) / seconds_since(decode_start);
  return result;
}

}  // namespace sluice::runtime
