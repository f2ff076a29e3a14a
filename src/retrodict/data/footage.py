"""Video files as a store keeps them: encoding, linking, and reading back exactly the frames that were committed."""
