// A question about an image: question MODEL MMPROJ IMAGE "What is this?" [ADAPTER]
#include <iostream>

#include <graft.hpp>

int main(int argc, char **argv) {
    if (argc < 5) {
        std::cerr << "usage: question MODEL MMPROJ IMAGE QUESTION [ADAPTER]\n";
        return 2;
    }
    try {
        const graft::Model model = graft::Model::open_seeing(argv[1], argv[2]);
        graft::Session session = graft::Session::create(model);
        if (argc > 5) session.set_adapter(graft::Adapter::open(model, argv[5]));

        graft::GenerateOptions options;
        options.max_tokens = 128;
        const auto result = session.generate(
            {{"user", argv[4], {graft::Image::open(argv[3])}}},
            [](std::string_view text) { std::cout << text << std::flush; }, options);

        std::cout << "\n";
        std::cerr << result.n_prompt << " positions in " << result.prompt_ms << " ms, " << result.n_generated
                  << " tokens in " << result.generate_ms << " ms\n";
    } catch (const graft::Error &error) {
        std::cerr << "question: " << error.what() << "\n";
        return 1;
    }
    return 0;
}
