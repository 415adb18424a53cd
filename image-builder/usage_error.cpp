#include "image-builder/usage_error.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <string_view>
#include <vector>

#include "support/error.h"
#include "support/nearest.h"

namespace pyram::builder {
namespace {

// Names live in the parser.
std::vector<std::string_view> command_names(const CLI::App& app) {
  std::vector<std::string_view> names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    names.push_back(command->get_name());
  }
  return names;
}

std::string joined(const std::vector<std::string_view>& names) {
  std::string text;
  for (const std::string_view name : names) text.append(text.empty() ? "" : ", ").append(name);
  return text;
}

// The word that nothing takes; an option before anything else, as what follows it may be its value.
std::string left_over(const CLI::App& command) {
  const std::vector<std::string> words = command.remaining();
  const auto option = std::ranges::find_if(
      words, [](const std::string& word) { return word.size() > 1 && word.front() == '-'; });
  if (option != words.end()) return *option;
  return words.empty() ? "" : words.front();
}

std::string unknown_option(const CLI::App& command, const std::string& word) {
  std::vector<std::string> long_names;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) long_names.push_back("--" + name);
  }
  const std::vector<std::string_view> names(long_names.begin(), long_names.end());
  return "unknown option " + quote(word) + suggestion(word.substr(0, word.find('=')), names);
}

std::string no_such_command(const CLI::App& app, const std::string& word) {
  const std::vector<std::string_view> names = command_names(app);
  return "unknown command " + quote(word) + suggestion(word, names) + "; the commands are " +
         joined(names);
}

// What CLI11 says of an option, "NAME: REST" or "NAME REST", without its words for types.
std::string in_words(const CLI::App& command, const std::string& called, std::string message) {
  if (const std::size_t end = message.find(" is required"); end != std::string::npos) {
    return called + " needs " + message.substr(0, end);
  }
  const std::size_t colon = message.find(": ");
  const std::string name = message.substr(0, colon);
  if (message.find(" required ") != std::string::npos && message.ends_with(" missing")) {
    return name + " needs a value";
  }
  if (message.find(" At Most 1 required") != std::string::npos) {
    return name + " is given more than once";
  }
  for (const std::string_view conversion : {"Could not convert: ", "Could not convert "}) {
    if (!message.starts_with(conversion)) continue;
    const std::string rest = message.substr(conversion.size());
    const std::size_t equals = rest.find(" = ");
    if (equals == std::string::npos) break;
    return rest.substr(0, equals) + " cannot be " + quote(rest.substr(equals + 3));
  }
  // Our own checks: "--level: needs a number".
  if (colon != std::string::npos && command.get_option_no_throw(name) != nullptr) {
    return name + message.substr(colon + 1);
  }
  return message;
}

}  // namespace

std::string usage_error(const CLI::App& app, const CLI::ParseError& error) {
  const std::vector<CLI::App*> chosen = app.get_subcommands();
  if (chosen.empty()) {
    const std::string word = left_over(app);
    if (word.empty()) return "a command is needed: " + joined(command_names(app));
    return word.front() == '-' ? unknown_option(app, word) : no_such_command(app, word);
  }
  const CLI::App& command = *chosen.front();
  const std::string called = command.get_name();
  std::string message;
  if (const std::string word = left_over(command); word.empty()) {
    message = in_words(command, called, error.what());
  } else if (word.front() == '-' && word.size() > 1) {
    message = unknown_option(command, word);
  } else {
    message = called + " has no use for " + quote(word);
  }
  return message + "; see pyram-image " + called + " --help";
}

}  // namespace pyram::builder
