// Loads tokenizers and encodes a text with each of them.
//
//   tokenizer_speed TEXT ROUNDS TOKENIZER..      tokenizer.json or tekken.json files
//
// One line of JSON a tokenizer: seconds to load it, the least seconds of the rounds to encode the text as one
// string with special tokens recognised, the ids' number, and their FNV-1a hash over 32-bit words, by which
// tokenizer_speed.py compares them with those of other programs.

#include <algorithm>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <limits>
#include <string>

#include "base/file.h"
#include "base/stopwatch.h"
#include "format/json.h"
#include "text/text.h"

namespace {

using namespace sluice;

std::uint32_t hash_of(const std::vector<text::TokenId>& ids) {
  std::uint32_t hash = 2166136261;
  for (const text::TokenId id : ids) hash = (hash ^ static_cast<std::uint32_t>(id)) * 16777619;
  return hash;
}

void measure(const std::string& path, const std::string& text, int rounds) {
  const auto bytes = base::read_file(path);
  const bool is_tekken = std::filesystem::path(path).filename() == "tekken.json";
  base::Stopwatch load;
  const auto tokenizer = text::make_tokenizer(
      {.kind = is_tekken ? text::TokenizerKind::tekken : text::TokenizerKind::hugging_face,
       .model = bytes,
       .end_ids = {0}},
      path);
  const double load_s = load.seconds();
  const std::vector<text::TextRange> all{{0, text.size()}};
  double best_s = std::numeric_limits<double>::max();
  std::vector<text::TokenId> ids;
  for (int round = 0; round < rounds; ++round) {
    base::Stopwatch encode;
    ids = tokenizer->encode(text, all);
    best_s = std::min(best_s, encode.seconds());
  }
  const auto line = format::Json::object({{"tokenizer", path},
                                          {"load_s", load_s},
                                          {"encode_s", best_s},
                                          {"tokens", ids.size()},
                                          {"hash", hash_of(ids)}});
  std::printf("%s\n", line.dump().c_str());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: tokenizer_speed TEXT ROUNDS TOKENIZER..\n");
    return 2;
  }
  try {
    const auto bytes = base::read_file(argv[1]);
    const std::string text(base::as_text(bytes));
    for (int i = 3; i < argc; ++i) measure(argv[i], text, std::stoi(argv[2]));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
