// A container keeps more of a release than its tensors: which files become sections, and how they are read
// back.

#include <doctest/doctest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "base/file.h"
#include "format/container_writer.h"
#include "format/hub/chat_files.h"
#include "format/hub/sections.h"
#include "tests/support/check_error.h"
#include "tests/support/forged_container.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_release.h"

namespace sluice::format {
namespace {

namespace fs = std::filesystem;
using base::ErrorKind;
using tests::TempDir;

void write(const fs::path& path, std::string_view text) { base::write_file(path, base::as_bytes(text)); }

std::vector<std::byte> to_bytes(std::string_view text) {
  const base::Bytes bytes = base::as_bytes(text);
  return {bytes.begin(), bytes.end()};
}

/// A container of tiny_params() with zeros as weights, and with these sections.
fs::path write_container(const fs::path& path,
                         std::initializer_list<std::pair<std::string_view, std::string_view>> sections) {
  const ModelDescription description = describe(tests::tiny_params());
  ContainerWriter writer(path, description);
  for (const auto& [name, text] : sections) writer.add_section(name, base::as_bytes(text));
  const auto expert_bytes = expert_extent_bytes(description, 0, Storage::q4_tiles);
  for (const ModelTensor& tensor : model_tensors(description)) {
    const bool expert = tensor.quantization == QuantizationClass::feed_forward;
    const Storage storage = tests::storage_of(tensor, expert ? Storage::q4_tiles : Storage::q8_tiles);
    writer.begin_tensor(tensor, storage, DType::bf16, expert_bytes);
    writer.append(std::vector<std::byte>(storage_bytes(storage, tensor.shape)));
    writer.end_tensor(base::Sha256{});
  }
  static_cast<void>(writer.finish());
  return path;
}

TEST_CASE("a release has a section for each file that decides the text, and for no other") {
  ReleasedModel release;
  release.tokenizer = to_bytes("pieces");
  release.params_text = "{}";
  const auto names = [&] {
    std::vector<std::string> found;
    for (const auto& section : released_sections(release)) found.emplace_back(section.name);
    return found;
  };
  // The names and the order of every container of Mixtral, whose root they are part of.
  CHECK(names() == std::vector<std::string>{"tokenizer", "params.json"});
  release.tokens.end_ids = {3};
  CHECK(names() == std::vector<std::string>{"tokenizer", "params.json", "tokens.json"});
  release.tokenizer_kind = TokenizerKind::hugging_face;
  release.chat = {"{1}", "{2}", "{{ 3 }}"};
  const auto sections = released_sections(release);
  CHECK(names() == std::vector<std::string>{"tokenizer.json", "params.json", "tokens.json",
                                            "tokenizer_config.json", "generation_config.json",
                                            "chat_template.jinja"});
  CHECK(sections[0].content == "pieces");
  CHECK(sections[3].content == "{1}");
  CHECK(sections[4].content == "{2}");
  CHECK(sections[5].content == "{{ 3 }}");
  release.tokenizer_kind = TokenizerKind::tekken;
  CHECK(names().front() == "tekken.json");
}

TEST_CASE("a tokenizer is read back from a container by its kind") {
  const TempDir folder;
  const auto old = ContainerReader::open(
      write_container(folder / "old.sluice", {{"tokenizer", "pieces"}, {"params.json", "{}"}}));
  CHECK(tokenizer_parts(old).kind == TokenizerKind::sentencepiece);
  CHECK(base::as_text(tokenizer_parts(old).model) == "pieces");
  CHECK(tokenizer_parts(old).config.empty());
  CHECK(tokenizer_parts(old).facts.empty());
  CHECK(read_section(old, kChatTemplateSection).empty());

  const fs::path path =
      write_container(folder / "new.sluice", {{"tokenizer.json", "{}"},
                                              {"params.json", "{}"},
                                              {"tokens.json", R"({"added":[],"end_ids":[3]})"},
                                              {"tokenizer_config.json", R"({"a":1})"},
                                              {"chat_template.jinja", "{{ x }}"}});
  const auto reader = ContainerReader::open(path);
  const TokenizerParts parts = tokenizer_parts(reader);
  CHECK(parts.kind == TokenizerKind::hugging_face);
  CHECK(base::as_text(parts.model) == "{}");
  CHECK(parts.config == R"({"a":1})");
  CHECK(parts.facts.end_ids == std::vector<std::int32_t>{3});
  CHECK(read_section(reader, kChatTemplateSection) == "{{ x }}");
  CHECK(find_tokenizer_section(reader).name == "tokenizer.json");
}

TEST_CASE("a container without a tokenizer, with two, or with damaged sections is refused by name") {
  const TempDir folder;
  const auto none = ContainerReader::open(write_container(folder / "none.sluice", {{"params.json", "{}"}}));
  CHECK_ERROR(tokenizer_parts(none), ErrorKind::malformed, "none.sluice: has no tokenizer");
  const auto two = ContainerReader::open(
      write_container(folder / "two.sluice", {{"tokenizer", "a"}, {"tekken.json", "{}"}}));
  CHECK_ERROR(tokenizer_parts(two), ErrorKind::malformed,
              "two.sluice: has two tokenizers, 'tokenizer' and 'tekken.json'");
  for (const std::string_view name :
       {std::string_view("tokenizer.json"), kTokenizerConfigSection, kTokenFactsSection}) {
    const fs::path path = write_container(
        folder / "damaged.sluice",
        {{"tokenizer.json", "{}"}, {kTokenizerConfigSection, "{}"}, {kTokenFactsSection, "{}"}});
    auto bytes = base::read_file(path);
    bytes[ContainerReader::open(path).find_section(name)->offset_bytes] ^= std::byte{1};
    base::write_file(path, bytes);
    CHECK_ERROR(tokenizer_parts(ContainerReader::open(path)), ErrorKind::verification,
                "section '" + std::string(name) + "' does not match its SHA-256");
  }
}

TEST_CASE("the chat template is read from each place in which releases have it") {
  const TempDir folder;
  const auto read = [&] { return read_chat_files(folder.path()).chat_template; };
  CHECK(read_chat_files(folder.path()) == ChatFiles{});
  const auto config = [&](std::string_view value) {
    write(folder / "tokenizer_config.json", R"({"chat_template": )" + std::string(value) + "}");
  };
  config(R"("old\n")");
  CHECK(read() == "old\n");
  CHECK(read_chat_files(folder.path()).tokenizer_config == R"({"chat_template": "old\n"})");
  config("null");
  CHECK(read().empty());
  config(R"([{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}])");
  CHECK(read() == "d");
  config(R"([{"name": "tool_use", "template": "t"}])");
  CHECK(read() == "t");
  config(R"([{"name": "tool_use", "template": "t"}, {"name": "rag", "template": "r"}])");
  CHECK(read().empty());
  write(folder / "chat_template.json", R"({"chat_template": "json"})");
  CHECK(read() == "json");
  config(R"("config")");
  CHECK(read() == "config");
  write(folder / "chat_template.jinja", "own\n");
  CHECK(read() == "own\n");
}

TEST_CASE("bad files of a conversation are refused with file and key") {
  const TempDir folder;
  const auto refuse = [&](const char* file, std::string_view text, const std::string& cause) {
    write(folder / file, text);
    CHECK_ERROR(read_chat_files(folder.path()), ErrorKind::malformed,
                (folder / file).string() + ": " + cause);
    fs::remove(folder / file);
  };
  refuse("tokenizer_config.json", "[]", "expected an object, found an array");
  refuse("tokenizer_config.json", "{", "is not valid JSON");
  refuse("tokenizer_config.json", R"({"chat_template": 1})",
         "key 'chat_template': expected a string, found 1");
  refuse("tokenizer_config.json", R"({"chat_template": [{"template": "t"}]})",
         "key 'chat_template': key 'name' is missing");
  refuse("tokenizer_config.json", R"({"chat_template": [{"name": "default"}]})",
         "key 'chat_template': key 'template' is missing");
  refuse("chat_template.jinja", "\xff", "is not UTF-8");
  refuse("chat_template.json", R"({"chat_template": ")" + std::string((1u << 20) + 1, 'x') + "\"}",
         "key 'chat_template': has 1048577 bytes, at most 1 MiB is supported");
  refuse("generation_config.json", "[]", "expected an object, found an array");
  refuse("generation_config.json", R"({"temperature": "hot"})", "key 'temperature': expected a number");
  refuse("generation_config.json", R"({"top_p": 1.5})", "key 'top_p': expected a number from 0");
  refuse("generation_config.json", R"({"min_p": -1})", "key 'min_p': expected a number from 0");
  refuse("generation_config.json", R"({"top_k": -2})", "key 'top_k': is -2, expected -1 to 2^30");
  refuse("generation_config.json", R"({"repetition_penalty": 0})",
         "key 'repetition_penalty': expected a number");
}

TEST_CASE("the recommended sampling is what the file states, and nothing else") {
  CHECK(parse_generation_defaults("", "g") == GenerationDefaults{});
  CHECK(parse_generation_defaults(R"({"eos_token_id": 1, "temperature": null})", "g") ==
        GenerationDefaults{});
  const auto defaults = parse_generation_defaults(
      R"({"temperature": 0.6, "top_p": 1, "top_k": 20, "min_p": 0.15, "repetition_penalty": 1.05})", "g");
  CHECK(defaults == GenerationDefaults{0.6, 1.0, 20, 0.15, 1.05});
  CHECK(parse_generation_defaults(R"({"top_k": -1})", "g").top_k == 0);
}

}  // namespace
}  // namespace sluice::format
