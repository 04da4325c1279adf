// The files of a release beside its weights on their way into a container, out of it, and compared with it.

#include "convert/release_files.h"

#include <doctest/doctest.h>

#include <filesystem>
#include <string>

#include "base/file.h"
#include "convert/export.h"
#include "format/container_reader.h"
#include "format/hub/sections.h"
#include "tests/support/forged_container.h"
#include "tests/support/make_container.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_release.h"

using namespace sluice;
using convert::Quant;
using tests::TempDir;

namespace {

namespace fs = std::filesystem;

constexpr const char* kConfig =
    R"({"chat_template": "{{ bos_token }}{{ messages }}", "eos_token": "</s>",
        "added_tokens_decoder": {"2048": {"content": "<|im_end|>", "special": true, "lstrip": true}}})";
constexpr const char* kGeneration = R"({"eos_token_id": [2048, 2], "temperature": 0.6, "top_k": 20})";

void write(const fs::path& path, std::string_view text) { base::write_file(path, base::as_bytes(text)); }

/// A release whose vocabulary has room for one added token.
void write_release(const fs::path& folder) {
  fs::create_directories(folder);
  auto params = tests::tiny_params();
  params.vocab_size = 2112;
  tests::write_tiny_release(folder, params, tests::make_tiny_tensors(params, 1));
  write(folder / "tokenizer_config.json", kConfig);
  write(folder / "generation_config.json", kGeneration);
}

fs::path export_to(const fs::path& input, const fs::path& output, convert::ExportFormat format) {
  convert::ExportRequest request;
  request.input = input;
  request.output = output;
  request.format = format;
  request.output_is_folder = format == convert::ExportFormat::safetensors;
  base::NoProgress progress;
  static_cast<void>(convert::export_model(request, progress, {}));
  return output;
}

std::string section(const fs::path& container, std::string_view name) {
  const auto reader = format::ContainerReader::open(container);
  return std::string(format::read_section(reader, name));
}

std::string difference(const fs::path& container, const fs::path& release) {
  convert::Request request;
  request.input = release;
  request.quant = Quant::bf16;
  base::NoProgress progress;
  return convert::difference_from(container, request, progress, {});
}

}  // namespace

TEST_CASE("a container keeps the files of a release, and an export gives them back") {
  const TempDir folder;
  write_release(folder / "release");
  const fs::path made = tests::make_container(folder / "release", folder / "m.sluice", Quant::bf16);
  CHECK(section(made, "tokenizer_config.json") == kConfig);
  CHECK(section(made, "generation_config.json") == kGeneration);
  CHECK(section(made, "chat_template.jinja") == "{{ bos_token }}{{ messages }}");
  CHECK(section(made, "tokens.json") ==
        R"({"added":[{"id":2048,"text":"<|im_end|>","control":true}],"end_ids":[2048,2]})");

  const fs::path out = export_to(made, folder / "out", convert::ExportFormat::safetensors);
  CHECK(base::read_text_file(out / "tokenizer_config.json") == kConfig);
  CHECK(base::read_text_file(out / "generation_config.json") == kGeneration);
  const fs::path again = tests::make_container(out, folder / "again.sluice", Quant::bf16);
  CHECK(format::ContainerReader::open(again).root() == format::ContainerReader::open(made).root());

  const fs::path gguf = export_to(made, folder / "m.gguf", convert::ExportFormat::gguf);
  const fs::path from_gguf = tests::make_container(gguf, folder / "gguf.sluice", Quant::bf16);
  CHECK(section(from_gguf, "chat_template.jinja") == "{{ bos_token }}{{ messages }}");
}

TEST_CASE("an export states in the released files what other files had said of the tokens") {
  const TempDir folder;
  write_release(folder / "release");
  write(folder / "release" / "added_tokens.json", R"({"<tool>": 2049})");
  write(folder / "release" / "config.json", R"({"eos_token_id": [7]})");
  const fs::path made = tests::make_container(folder / "release", folder / "m.sluice", Quant::bf16);
  const fs::path out = export_to(made, folder / "out", convert::ExportFormat::safetensors);
  const fs::path again = tests::make_container(out, folder / "again.sluice", Quant::bf16);
  CHECK(section(again, "tokens.json") == section(made, "tokens.json"));
  CHECK(section(again, "chat_template.jinja") == section(made, "chat_template.jinja"));
  const std::string config = base::read_text_file(out / "tokenizer_config.json");
  CHECK(config.find("\"lstrip\": true") != std::string::npos);  // what was there stays
}

TEST_CASE("an existing container is the same conversion's also when it was made before a file was kept") {
  const TempDir folder;
  write_release(folder / "release");
  const fs::path made = tests::make_container(folder / "release", folder / "m.sluice", Quant::bf16);
  CHECK(difference(made, folder / "release").empty());
  const fs::path older = folder / "older.sluice";
  tests::forge_container(made, older, [](format::ContainerDirectory& directory, auto&) {
    std::erase_if(directory.sections,
                  [](const auto& one) { return one.name == format::kChatTemplateSection; });
  });
  CHECK(difference(older, folder / "release").empty());
  const fs::path other = folder / "other.sluice";
  tests::forge_section(made, other, format::kChatTemplateSection, 0);
  CHECK(difference(other, folder / "release") ==
        "has another tokenizer, another chat template or other parameters");
  fs::remove(folder / "release" / "generation_config.json");
  CHECK(difference(made, folder / "release") ==
        "has another tokenizer, another chat template or other parameters");
}
