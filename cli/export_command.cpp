// convert --to gguf and --to safetensors. The options were declared and checked by convert; types that only
// one format has are refused here. convert::export_model() uses threads of its own.

#include "cli/export_command.h"

#include <filesystem>
#include <optional>

#include "base/error.h"
#include "base/stopwatch.h"
#include "base/text.h"
#include "cli/progress_line.h"
#include "cli/table.h"
#include "convert/convert.h"
#include "library/library.h"
#include "runtime/runtime.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;
using convert::ExportFormat;
using convert::ExportType;
using format::Json;

/// No type means the values exactly as the input has them. q8 and q4 exist in GGUF only (Q8_0, Q4_0), because
/// safetensors has no blocks.
std::optional<ExportType> parse_type(const ExportArguments& arguments) {
  const std::string& text = arguments.quant;
  if (text.empty()) return std::nullopt;
  if (text == "f32") return ExportType::f32;
  if (text == "bf16") return ExportType::bf16;
  const bool gguf = arguments.to == "gguf";
  if (gguf && (text == "q8" || text == "q8_0")) return ExportType::q8_0;
  if (gguf && (text == "q4" || text == "q4_0")) return ExportType::q4_0;
  throw base::Error(base::ErrorKind::usage, "--to " + arguments.to + " writes " +
                                                (gguf ? "f32, bf16, q8_0 or q4_0" : "f32 or bf16") +
                                                ", not " + text);
}

/// The name of the release folder, or of the .sluice file without its extension.
std::string input_name(const fs::path& input) {
  if (!library::is_one_file(input)) return library::own_name(input);
  return input.extension() == ".sluice" ? input.stem().string()
                                        : library::own_name(library::parent_of(input));
}

void set_output(const ExportArguments& arguments, convert::ExportRequest& request) {
  const bool gguf = request.format == ExportFormat::gguf;
  request.output = arguments.output;
  if (!arguments.output.empty()) {
    // A trailing slash names a folder that does not exist yet.
    const bool names_folder = arguments.output.ends_with('/') || fs::is_directory(arguments.output);
    if (names_folder && gguf)
      throw base::Error(base::ErrorKind::usage, arguments.output + ": is a folder, --to gguf writes a file");
    request.output_is_folder = names_folder;
  } else if (gguf) {
    const std::string type = request.type ? "-" + std::string(convert::to_string(*request.type)) : "";
    request.output = input_name(request.input) + type + ".gguf";
  } else {
    // A folder gets the other files of a release, too; a file gets the weights alone.
    request.output = input_name(request.input) + "-safetensors";
    request.output_is_folder = true;
  }
}

void print_result(const ExportArguments& arguments, const convert::ExportRequest& request,
                  const convert::ExportResult& result, double seconds, Console& console) {
  Json files = Json::array();
  const auto add_file = [&](const convert::ExportedFile& file) {
    // Each file comes with its SHA-256, because exported formats hold no digests of their own.
    files.push_back(Json::object(
        {{"path", file.path.string()}, {"bytes", file.bytes}, {"sha256", base::to_hex(file.sha256)}}));
  };
  add_file(result.weights);
  for (const auto& file : result.others) add_file(file);
  console.event(Json::object({{"event", "result"},
                              {"output", request.output.string()},
                              {"format", arguments.to},
                              {"type", convert::to_string(result.type)},
                              {"bytes", result.weights.bytes},
                              {"tensors", result.tensors},
                              {"parameters", result.value_count},
                              {"seconds", seconds},
                              {"output_bytes_per_s", static_cast<double>(result.weights.bytes) / seconds},
                              {"peak_rss_bytes", runtime::peak_rss_bytes()},
                              {"file_sha256", base::to_hex(result.weights.sha256)},
                              {"files", std::move(files)}}));
  console.print(request.output.string() + ": " + base::to_counted(result.tensors, "tensor") + ", " +
                std::string(convert::to_string(result.type)) + ", " +
                base::to_human_bytes(result.weights.bytes) + " in " + format_number("%.1f s", seconds));
  console.print("sha256 " + base::to_hex(result.weights.sha256));
}

}  // namespace

int export_command(const ExportArguments& arguments, const Invocation& invocation) {
  convert::ExportRequest request;
  request.input = arguments.input;
  request.format = arguments.to == "gguf" ? ExportFormat::gguf : ExportFormat::safetensors;
  request.type = parse_type(arguments);
  request.memory_bytes = arguments.memory_bytes;
  request.thread_count = arguments.thread_count;
  request.name = arguments.name;
  request.licence = arguments.licence;
  set_output(arguments, request);

  ProgressLine progress(invocation.console);
  const base::Stopwatch watch;
  const auto result = convert::export_model(request, progress, invocation.stop);
  const double seconds = watch.seconds();
  invocation.console.clear_status();
  print_result(arguments, request, result, seconds, invocation.console);
  return 0;
}

}  // namespace sluice::cli
