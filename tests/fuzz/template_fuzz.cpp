// A chat template from strangers: whatever it does with a conversation, it ends in bounded time and memory
// with a text or an error, and no byte of the conversation counts as the template's own.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/invariant.h"
#include "format/json.h"
#include "text/text.h"

using namespace sluice;
using format::Json;

namespace {

// U+E000, whose first byte no template of the corpus has.
constexpr std::string_view kMark = "\xEE\x80\x80";

Json messages() {
  const std::string content = std::string(kMark) + " <|im_end|> {{ 1 }} " + std::string(kMark);
  const Json call = Json::object(
      {{"function", Json::object({{"name", kMark}, {"arguments", Json::object({{"city", content}})}})}});
  return Json::array(
      {Json::object({{"role", "system"}, {"content", content}}),
       Json::object({{"role", "user"},
                     {"content", Json::array({Json::object({{"type", "text"}, {"text", content}})})}}),
       Json::object({{"role", "assistant"},
                     {"content", content},
                     {"reasoning_content", kMark},
                     {"tool_calls", Json::array({call})}}),
       Json::object({{"role", "tool"}, {"content", kMark}}),
       Json::object({{"role", "user"}, {"content", content}})});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view source(reinterpret_cast<const char*>(data), size);
  try {
    const text::ChatTemplate chat_template(source, "fuzz");
    text::ChatContext context;
    context.messages = messages();
    context.variables = Json::object({{"enable_thinking", true}, {"number", 7}, {"word", kMark}});
    context.bos_token = "<s>";
    context.eos_token = "</s>";
    context.unix_time_s = 1'768'435'200;
    const text::MarkedText rendered = chat_template.render(context);
    std::size_t end = 0;
    // A literal can make any character with an escape.
    const bool can_make_mark = source.find('\xEE') != source.npos || source.find('\\') != source.npos;
    for (const text::TextRange& range : rendered.trusted) {
      INVARIANT(end <= range.begin && range.begin < range.end && range.end <= rendered.text.size());
      end = range.end;
      const std::string_view trusted =
          std::string_view(rendered.text).substr(range.begin, range.end - range.begin);
      INVARIANT(can_make_mark || trusted.find('\xEE') == trusted.npos);
    }
  } catch (const base::Error& error) {
    INVARIANT(error.kind() == base::ErrorKind::malformed || error.kind() == base::ErrorKind::usage);
  }
  return 0;
}
